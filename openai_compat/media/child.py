"""The process that strangers' media are decoded in: bounded memory and time, no files, no network, one after another.

``python -P -m openai_compat.media.child picture`` decodes pictures, ``… audio`` sounds; each loads its own libraries alone. It
reads an ``Order`` and the bytes from standard input, and answers with pieces of what it made, an empty piece, and a word:
``""`` when all went well. It ends when its standard input does, in the middle of its work too.
"""

from __future__ import annotations

import importlib
import math
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Iterator
from typing import IO, Protocol, cast

import msgspec

from openai_compat.media.pipe import READY, UNREADABLE, Order, Refused, read, read_exactly, write

MODULE = "openai_compat.media.child"
KINDS = {"audio": "openai_compat.media.audio_child", "picture": "openai_compat.media.picture_child"}
HANDLES = 3  # standard input, output and error, and never one more


class Decoding(Protocol):
    """The module of a kind."""

    def warm_up(self) -> None:
        """Decode a little, so that nothing has to be imported, or opened, later."""

    def decode(self, data: bytes, task: msgspec.Raw) -> Iterator[bytes]:
        """Pieces of what is made of it, none of them empty. Raises ``Refused``, and whatever a library raises."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the worker decides when this ends
    question, answer = sys.stdin.buffer, sys.stdout.buffer
    threading.Thread(target=_end_with_input, daemon=True).start()
    kind = cast(Decoding, importlib.import_module(KINDS[sys.argv[1]]))
    kind.warm_up()
    addresses = _addresses()
    _lock_up()
    write(answer, READY.encode())
    while True:
        try:
            order = msgspec.msgpack.decode(read(question), type=Order)
            _bound(order, addresses)
            data = read_exactly(question, order.size)
        except EOFError:
            return
        word = _work(kind, data, order, answer)
        write(answer, b"")
        write(answer, word.encode())


def _work(kind: Decoding, data: bytes, order: Order, answer: IO[bytes]) -> str:
    """Any failure on a stranger's bytes is their fault; what a library says about it may tell more than they know."""
    try:
        for piece in kind.decode(data, order.task):
            write(answer, piece)
    except Refused as refused:
        return str(refused)
    except Exception:
        return UNREADABLE
    return ""


def _lock_up() -> None:
    """From here on nothing can be opened, forked or written to disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (HANDLES, HANDLES))


def _bound(order: Order, addresses: int) -> None:
    """Limits for one of them, on top of what the process had before the first: bytes of addresses, seconds of processor."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + order.cpu, resource.RLIM_INFINITY))
    if addresses:
        resource.setrlimit(resource.RLIMIT_AS, (addresses + order.memory + order.size, resource.RLIM_INFINITY))


def _addresses() -> int:
    """Bytes of address space in use; 0 where the system does not say, and does not limit it either."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _end_with_input() -> None:
    """The other end of standard input is closed by its process's end, whatever that is."""
    poll = select.poll()
    poll.register(0, 0)
    poll.poll()
    os._exit(0)


if __name__ == "__main__":
    main()
