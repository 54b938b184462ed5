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
    """Knows whether there was a terminal at the start."""

    def __init__(self) -> None:
        self._had_terminal = _has_terminal()

    @contextmanager
    def calling(self, act: Act) -> Iterator[None]:
        """Let the signal call ``act`` in the main thread, and nothing once that is over: the process is about to end."""
        number = getattr(signal, "SIGHUP", None)  # no such thing on Windows
        if number is not None:
            signal.signal(number, lambda _, frame: act(self._had_terminal and not _has_terminal(), frame))
        try:
            yield
        finally:
            if number is not None:
                signal.signal(number, signal.SIG_IGN)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
