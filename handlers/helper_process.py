"""A process of our own that answers one question at a time, and that can be stopped in the middle of one.

What no thread can be taken out of, or may fill the memory, is done there: a stranger's grammar, a stranger's template.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from typing import IO

READY = b"ready"
START_SECONDS = 60.0
MAX_ANSWER = 1 << 30
_LENGTH = struct.Struct("!I")
_PIECE = 1 << 16


class HelperProcess:
    """Runs ``python -P -m module``, which answers ``READY`` to ``first`` and then question after question.

    It starts on first use, and anew after one that had to be stopped. It ends with this object. It belongs to one thread.

    Args:
        environment: of the process; that of this one if None.
    """

    def __init__(self, module: str, first: bytes, environment: Mapping[str, str] | None = None) -> None:
        self._command = [sys.executable, "-P", "-m", module]
        self._first = first
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None

    def ask(self, question: bytes, seconds: float) -> bytes | None:
        """None where there was no answer in time, or the process died of the question; it is gone then.

        One that somebody else killed, as a system short of memory does, is no answer: the next process is asked once more.

        Raises ``RuntimeError`` where the process does not come up.
        """
        deadline = time.monotonic() + seconds
        try:
            answer = _asked(self.start(), question, seconds)
            if answer is None and self._was_killed(deadline):
                answer = _asked(self.start(), question, seconds)
        except BaseException:
            self.close()  # an answer that nobody took would be the next question's
            raise
        if answer is None:
            self.close()
        return answer

    def start(self) -> subprocess.Popen[bytes]:
        """Raises ``RuntimeError`` where the process does not come up."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        pipe = subprocess.PIPE
        process = subprocess.Popen(  # noqa: S603 -- our own module
            self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, env=self._environment
        )
        self._end = weakref.finalize(self, _stop, process)
        if _asked(process, self._first, START_SECONDS) != READY:
            self.close()
            raise RuntimeError("a helper process did not start")
        self._process = process
        return process

    def _was_killed(self, deadline: float) -> bool:
        """Not by itself, which ends by other signals, nor for want of time, since then it still runs."""
        left = deadline - time.monotonic()
        if self._process is None or left <= 0:
            return False
        try:
            return self._process.wait(left) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def close(self) -> None:
        self._process = None
        self._end()


def _asked(process: subprocess.Popen[bytes], question: bytes, seconds: float) -> bytes | None:
    if process.stdin is None or process.stdout is None:
        return None
    deadline = time.monotonic() + seconds
    if not _send(process.stdin.fileno(), _LENGTH.pack(len(question)) + question, deadline):
        return None
    head = _receive(process.stdout.fileno(), _LENGTH.size, deadline)
    length = _LENGTH.unpack(head)[0] if head else MAX_ANSWER + 1
    return _receive(process.stdout.fileno(), length, deadline) if length <= MAX_ANSWER else None


def _send(pipe: int, message: bytes, deadline: float) -> bool:
    """Whether all of it was taken before the ``deadline``."""
    os.set_blocking(pipe, False)
    left = memoryview(message)
    while left:
        if not select.select([], [pipe], [], max(0.0, deadline - time.monotonic()))[1]:
            return False
        try:
            left = left[os.write(pipe, left) :]
        except BrokenPipeError:
            return False
    return True


def _receive(pipe: int, length: int, deadline: float) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        piece = os.read(pipe, min(length - len(data), max(_PIECE, len(data))))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def write(pipe: IO[bytes], message: bytes) -> None:
    """For the process itself: one answer."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def read(pipe: IO[bytes]) -> bytes | None:
    """For the process itself: the next question, None where there will be none."""
    head = pipe.read(_LENGTH.size)
    return pipe.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None
