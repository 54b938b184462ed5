"""A stream from an upstream: what goes to the client is whole events of JSON, wherever the bytes were cut on the way."""

from __future__ import annotations

import json

from openai_compat.gateway.upstreams.framing import Framing
from openai_compat.gateway.upstreams.stream import Guard, Rules


def fuzz(data: bytes) -> None:
    """Of the first byte, bits choose the rules; the second is how long the pieces are."""
    flags, size, stream = data[0] if data else 0, 1 + (data[1] if len(data) > 1 else 0), data[2:]
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    check_framing(stream, pieces)
    rules = Rules(
        chat=bool(flags & 1),
        ends=bool(flags & 2),
        drop_usage=bool(flags & 4),
        model="ours" if flags & 8 else None,
        used=check_count,
    )
    check_events(read(Guard(rules), pieces), chat=rules.chat)


def check_framing(stream: bytes, pieces: list[bytes]) -> None:
    whole, cut = Framing(), Framing()
    at_once = whole.feed(stream) + whole.rest()
    assert b"".join([cut.feed(piece) for piece in pieces]) + cut.rest() == at_once
    assert b"\r" not in at_once


def read(guard: Guard, pieces: list[bytes]) -> bytes:
    out = []
    for piece in pieces:
        out.append(guard.feed(piece))
        if guard.done or guard.failure is not None:
            return b"".join(out)
    out.append(guard.end())
    assert guard.done or guard.failure is not None
    return b"".join(out)


def check_events(out: bytes, *, chat: bool) -> None:
    """Every event is one that a strict client can read, and nothing stands behind the last."""
    assert not out or out.endswith(b"\n\n")
    for event in out.split(b"\n\n")[:-1]:
        lines = [line.partition(b":") for line in event.split(b"\n") if line]
        assert all(name in (b"", b"data", b"event", b"id", b"retry") for name, _, _ in lines), event
        said = b"\n".join([value.removeprefix(b" ") for name, _, value in lines if name == b"data"])
        if said and said != b"[DONE]":
            assert isinstance(json.loads(said.decode()), dict) or not chat


def check_count(prompt: int, completion: int, cached: int) -> None:
    assert 0 <= cached <= prompt
    assert completion >= 0
