"""Building a client's grammar in a process of its own first, where it can be stopped.

The library has no limit on the time and memory of building: intersections of patterns can take minutes and gigabytes, in one
call that no thread can be taken out of. Building is deterministic, so what went well here goes well in the model's process.
"""

from __future__ import annotations

import resource
import signal
import sys
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from handlers.decoding import grammar_library
from handlers.decoding.grammar_library import Tokens
from handlers.helper_process import READY, HelperProcess, read, write

if TYPE_CHECKING:
    from llguidance import LLTokenizer

SECONDS = 2.0
"""For one grammar, its first mask included."""
MEMORY = 256 << 20
TOO_COMPLEX = "too complex"
_MODULE = "handlers.decoding.grammar_trial"


class Verdict(Struct, frozen=True):
    """What is wrong, in the library's words, or ``TOO_COMPLEX``; empty if nothing is. ``size`` is in bytes of memory.

    ``grammar`` is what was tried, in the library's own form.
    """

    problem: str
    size: int = 0
    grammar: str = ""


class Trial:
    """Tells what is wrong with a grammar. The process starts on first use, and anew after one that had to be stopped.

    It belongs to one thread, and ends with this object.
    """

    def __init__(self, tokens: Tokens, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._process = HelperProcess(_MODULE, msgspec.msgpack.encode((tokens, memory)))
        self._seconds = seconds

    def judge(self, grammar: str, *, written: bool = False) -> Verdict:
        """``written``: it is in a client's own words, which are turned into the library's form there too."""
        answer = self._process.ask(msgspec.msgpack.encode((grammar, written)), self._seconds)
        return Verdict(TOO_COMPLEX) if answer is None else msgspec.msgpack.decode(answer, type=Verdict)

    def close(self) -> None:
        self._process.close()


def main() -> None:
    """Answer what stands on standard input until it ends; a process that nobody stops in time stops itself."""
    question, answer = sys.stdin.buffer, sys.stdout.buffer
    tokens, memory = msgspec.msgpack.decode(read(question) or b"", type=tuple[Tokens, int])
    tokenizer = grammar_library.tokenizer(tokens)
    grammar_library.first_mask(grammar_library.compiled(tokenizer, grammar_library.of_json_schema("{}")), len(tokens.texts))
    _limit(memory)
    write(answer, READY)
    while (asked := read(question)) is not None:
        signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
        verdict = _judged(tokenizer, len(tokens.texts), *msgspec.msgpack.decode(asked, type=tuple[str, bool]))
        signal.setitimer(signal.ITIMER_REAL, 0)
        write(answer, msgspec.msgpack.encode(verdict))


def _judged(tokenizer: LLTokenizer, size: int, text: str, written: bool) -> Verdict:
    before = _in_use()[1]
    try:
        grammar = grammar_library.of_grammar(text) if written else text
    except ValueError as error:
        return Verdict(str(error))
    matcher = grammar_library.compiled(tokenizer, grammar)
    found = grammar_library.problem(matcher) or grammar_library.first_mask(matcher, size)
    return Verdict(found, max(0, _in_use()[1] - before), grammar)


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
