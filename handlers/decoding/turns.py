"""Letting a call that runs to its end, such as ``generate()``, give way in between."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable


class Turns:
    """Work in a thread of its own that runs only while its caller waits, so that nothing ever happens at the same time.

    Args:
        work: gets a function that hands back to the caller, and comes back with the next turn.
    """

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        self.ended = False
        self._work = work
        self._mine = threading.Semaphore(0)
        self._callers = threading.Semaphore(0)
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run,), daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Let the work go on until it hands back or ends."""
        self._mine.release()
        self._callers.acquire()
        if self.ended:
            self._thread.join()

    def _run(self) -> None:
        self._mine.acquire()
        try:
            self._work(self._hand_back)
        finally:
            self.ended = True
            self._callers.release()

    def _hand_back(self) -> None:
        self._callers.release()
        self._mine.acquire()
