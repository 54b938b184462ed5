"""Chats as Structs: however an answer was cut on its way, whatever servers leave out, and however it fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from openai_compat.errors import APIError
from openai_compat.gateway.asking import Asker
from openai_compat.gateway.chats import PATH, Chats
from openai_compat.grants import ANYBODY

ASKER = Asker(grant=ANYBODY, request_id="r1")
ONE = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'
TWO = b'data: {"choices":[{"delta":{"content":"two"},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
FAILED = b'data: {"error":{"message":"it broke","type":"server_error","param":null,"code":"worker_died"}}\n\n'


class Given:
    """In the place of ``Asking``: an answer that came in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.asked: dict[str, Any] = {}

    @asynccontextmanager
    async def open(self, path: str, body: bytes, asker: Asker) -> AsyncIterator[Given]:
        assert path == PATH
        self.asked = json.loads(body)
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def read(self) -> bytes:
        return b"".join(self._pieces)


async def batches(*pieces: bytes) -> AsyncIterator[list[Any]]:
    async with Chats(Given(*pieces)).stream({"model": "m"}, ASKER) as chunks:  # type: ignore[arg-type]
        async for batch in chunks:
            yield batch


async def texts(*pieces: bytes) -> list[str]:
    found = [answer for batch in [batch async for batch in batches(*pieces)] for answer in batch]
    return [choice.said.content or "" for answer in found for choice in answer.choices or ()]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_events_are_the_same_however_they_were_cut(in_time, size: int, end: bytes) -> None:
    whole = b": ping\n\n" + ONE + b"event: x\nid: 1\n" + TWO + USAGE + DONE
    whole = whole.replace(b"\n\n", end)
    pieces = [whole[place : place + size] for place in range(0, len(whole), size)]
    assert in_time(texts(*pieces)) == ["one", "two"]


def test_what_came_at_once_is_given_at_once(in_time) -> None:
    async def scenario() -> list[int]:
        return [len(batch) async for batch in batches(ONE, TWO + USAGE, DONE)]

    assert in_time(scenario()) == [1, 2]


def test_a_last_event_without_its_end_counts(in_time) -> None:
    assert in_time(texts(ONE, TWO.rstrip())) == ["one", "two"]


def test_an_error_event_is_raised_after_what_came_before_it(in_time) -> None:
    async def scenario(*pieces: bytes) -> tuple[list[Any], APIError]:
        seen: list[Any] = []
        try:
            async for batch in batches(*pieces):
                seen += batch
        except APIError as error:
            return seen, error
        raise AssertionError("nothing was raised")

    for pieces in ((ONE, TWO, FAILED), (ONE + TWO + FAILED + ONE,)):
        seen, error = in_time(scenario(*pieces))
        assert (len(seen), error.message, error.code) == (2, "it broke", "worker_died")


DEEP = b"[" * 100_000 + b"]" * 100_000
NONSENSE = {
    "half an object": b"{",
    "a number": b"1",
    "another type": b'{"choices": 3}',
    "no UTF-8": b'"\xff"',
    "depth": b'{"choices":' + DEEP + b"}",
    "depth in an error": b'{"error":{"x":' + DEEP + b"}}",
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_a_failure_in_our_words(in_time, nonsense: str) -> None:
    said = NONSENSE[nonsense]
    with pytest.raises(APIError, match="could not be read"):
        in_time(texts(ONE, b"data: " + said + b"\n\n"))
    with pytest.raises(APIError, match="could not be read"):
        in_time(Chats(Given(said)).whole({}, ASKER))  # type: ignore[arg-type]


def test_words_about_errors_are_no_errors(in_time) -> None:
    said = b'data: {"choices":[{"delta":{"content":"{\\"error\\": 1}"}}],"error":null}\n\n'
    assert in_time(texts(said)) == ['{"error": 1}']


def test_a_whole_answer_is_asked_for_whole_and_a_stream_with_its_usage(in_time) -> None:
    given = Given(b'{"choices":[{"message":{"content":"hi"}}]}')
    answer = in_time(Chats(given).whole({"model": "m", "stream": True}, ASKER))  # type: ignore[arg-type]
    assert (answer.choices[0].said.content, given.asked) == ("hi", {"model": "m", "stream": False})
    given = Given(ONE)

    async def stream() -> None:
        async with Chats(given).stream({"model": "m"}, ASKER) as chunks:  # type: ignore[arg-type]
            await anext(chunks)

    in_time(stream())
    assert given.asked == {"model": "m", "stream": True, "stream_options": {"include_usage": True}}


def test_an_error_in_the_place_of_an_answer_is_raised(in_time) -> None:
    with pytest.raises(APIError, match="it broke"):
        in_time(Chats(Given(FAILED.removeprefix(b"data: "))).whole({}, ASKER))  # type: ignore[arg-type]
