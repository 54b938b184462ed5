"""Building a client's grammar in a process of its own first, where it can be stopped.

The library has no limit on the time and memory of building: intersections of patterns can take minutes and gigabytes, in one
call that no thread can be taken out of. Building is deterministic, so what went well here goes well in the model's process.
"""

from __future__ import annotations

import resource
import select
import signal
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from typing import IO

import msgspec
from msgspec import Struct

from handlers.decoding import grammar_library
from handlers.decoding.grammar_library import Tokens

SECONDS = 2.0
"""For one grammar, its first mask included."""
MEMORY = 256 << 20
_START_SECONDS = 60.0
_LENGTH = struct.Struct("!I")
_READY = b"ready"
TOO_COMPLEX = "too complex"
_MODULE = "handlers.decoding.grammar_trial"


class Verdict(Struct, frozen=True):
    """What is wrong, in the library's words, or ``TOO_COMPLEX``; empty if nothing is. ``size`` is in bytes of memory."""

    problem: str
    size: int = 0


class Trial:
    """Tells what is wrong with a grammar. The process starts on first use, and anew after one that had to be stopped.

    It belongs to one thread, and ends with this object.
    """

    def __init__(self, tokens: Tokens, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._first = msgspec.msgpack.encode((tokens, memory))
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None

    def judge(self, grammar: str) -> Verdict:
        process = self._process or self._start()
        answer = self._ask(process, grammar.encode(), self._seconds)
        if answer is None:
            self.close()
            return Verdict(TOO_COMPLEX)
        return msgspec.msgpack.decode(answer, type=Verdict)

    def close(self) -> None:
        self._process = None
        self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        """Raises ``RuntimeError`` where the process does not come up."""
        command = [sys.executable, "-P", "-m", _MODULE]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)  # noqa: S603 -- ours
        self._end = weakref.finalize(self, _stop, process)
        if self._ask(process, self._first, _START_SECONDS) != _READY:
            self.close()
            raise RuntimeError("the process that tries grammars did not start")
        self._process = process
        return process

    @staticmethod
    def _ask(process: subprocess.Popen[bytes], question: bytes, seconds: float) -> bytes | None:
        """The answer; None where there is none in time, or the process has ended."""
        if process.stdin is None or process.stdout is None:
            return None
        try:
            _write(process.stdin, question)
        except BrokenPipeError:
            return None
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([process.stdout], [], [], left)[0]:
                return _read(process.stdout)
        return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _write(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    return pipe.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


def main() -> None:
    """Answer what stands on standard input until it ends; a process that nobody stops in time stops itself."""
    question, answer = sys.stdin.buffer, sys.stdout.buffer
    tokens, memory = msgspec.msgpack.decode(_read(question) or b"", type=tuple[Tokens, int])
    tokenizer = grammar_library.tokenizer(tokens)
    grammar_library.first_mask(grammar_library.compiled(tokenizer, grammar_library.of_json_schema("{}")), len(tokens.texts))
    _limit(memory)
    _write(answer, _READY)
    while (grammar := _read(question)) is not None:
        signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
        before = _in_use()[1]
        matcher = grammar_library.compiled(tokenizer, grammar.decode())
        found = grammar_library.problem(matcher) or grammar_library.first_mask(matcher, len(tokens.texts))
        size = max(0, _in_use()[1] - before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(answer, msgspec.msgpack.encode(Verdict(found, size)))


def _in_use() -> tuple[int, int]:
    """Bytes of addresses and of memory."""
    with open("/proc/self/statm") as statm:
        addresses, memory = (int(pages) * resource.getpagesize() for pages in statm.read().split()[:2])
    return addresses, memory


def _limit(memory: int) -> None:
    """``memory`` bytes beyond what is in use, and no core files."""
    used = _in_use()[0]
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
