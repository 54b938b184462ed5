"""SIGHUP: "read your configuration again" to a service, and "your terminal is gone" to a program in one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Act = Callable[[bool, FrameType | None], None]
"""Takes whether the terminal is lost."""


class Hangup:
    """What the signal means, from the start of the process. One that comes before anybody acts on it is kept until then."""

    def __init__(self) -> None:
        self._had_terminal = _has_terminal()
        self._act: Act | None = None
        self._missed = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """The process is not ended by it, unless its terminal is lost before it serves: that is ``KeyboardInterrupt``."""
        number = getattr(signal, "SIGHUP", None)  # no such thing on Windows
        if number is not None:
            signal.signal(number, self._came)
        try:
            yield
        finally:
            if number is not None:
                signal.signal(number, signal.SIG_IGN)

    def call(self, act: Act) -> None:
        """From now on the signal calls ``act``, in the main thread."""
        self._act = act
        if self._missed:
            act(False, None)

    def _came(self, _: int, frame: FrameType | None) -> None:
        lost = self._had_terminal and not _has_terminal()
        if self._act is not None:
            self._act(lost, frame)
        elif lost:
            raise KeyboardInterrupt
        else:
            self._missed = True


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
