"""What a corked transport writes, and when."""

from __future__ import annotations

import asyncio

from openai_compat.http.corked import Corked

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def played(act) -> Wire:
    wire = Wire()

    async def scenario() -> None:
        corked = Corked(wire, asyncio.get_running_loop())
        await act(corked)
        await asyncio.sleep(0.01)

    asyncio.run(scenario())
    return wire


def test_a_head_and_the_body_that_comes_with_it_are_one_write() -> None:
    async def act(corked: Corked) -> None:
        corked.write(HEAD)
        corked.write(b"body")
        corked.write(b"more")

    assert played(act).writes == [HEAD + b"body", b"more"]


def test_a_head_alone_goes_out_within_the_turn() -> None:
    async def act(corked: Corked) -> None:
        corked.write(HEAD)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        corked.write(b"late")

    assert played(act).writes == [HEAD, b"late"]


def test_whoever_closes_has_sent_everything() -> None:
    async def act(corked: Corked) -> None:
        corked.write(HEAD)
        corked.close()
        assert corked.is_closing()

    wire = played(act)
    assert (wire.writes, wire.closed) == ([HEAD], True)


def test_answers_keep_their_order() -> None:
    async def act(corked: Corked) -> None:
        corked.write(HEAD + b"1")
        corked.write(HEAD + b"2")
        corked.flush()
        corked.flush()

    assert b"".join(played(act).writes) == HEAD + b"1" + HEAD + b"2"
