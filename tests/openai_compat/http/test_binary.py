import asyncio
from collections.abc import AsyncGenerator

import pytest

from openai_compat.errors import APIError, InvalidRequest
from openai_compat.http.binary import ByteStream


async def play(chunks: AsyncGenerator[bytes, None], leave: asyncio.Event | None = None, *, at: bytes = b"") -> list[dict]:
    """What is sent; the client leaves when ``leave`` is set or when it is sent ``at``."""
    leave = leave or asyncio.Event()
    sent: list[dict] = []

    async def receive() -> dict:
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)
        if at and message.get("body") == at:
            leave.set()
            await asyncio.sleep(0.01)

    answer = ByteStream(chunks, "audio/mpeg").to_asgi_response(None, None, headers={"X-Own": "1"})
    async with asyncio.timeout(20):
        await answer({"type": "http"}, receive, send)
    return sent


async def pieces(*parts: bytes | Exception, closed: list[bool] | None = None) -> AsyncGenerator[bytes, None]:
    try:
        for part in parts:
            await asyncio.sleep(0)
            if isinstance(part, Exception):
                raise part
            yield part
    finally:
        if closed is not None:
            closed.append(True)


def test_bytes_are_sent_as_they_come_and_the_end_is_an_empty_body():
    sent = asyncio.run(play(pieces(b"a", b"b")))
    assert [(m.get("body"), m.get("more_body")) for m in sent[1:]] == [(b"a", True), (b"b", True), (b"", False)]
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"] == b"audio/mpeg"
    assert headers[b"x-own"] == b"1"
    assert b"content-length" not in headers


def test_an_answer_of_no_bytes_is_whole():
    sent = asyncio.run(play(pieces()))
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert sent[1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_a_failure_before_the_first_byte_is_raised_and_nothing_sent():
    async def scenario():
        with pytest.raises(InvalidRequest):
            await play(pieces(InvalidRequest("No.")))

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [APIError("It broke."), ValueError("secret")])
def test_a_failure_after_the_first_byte_leaves_the_body_without_an_end(error, caplog):
    sent = asyncio.run(play(pieces(b"a", error)))
    assert sent[-1] == {"type": "http.response.body", "body": b"a", "more_body": True}
    assert "broken off" in caplog.text


def test_a_client_that_leaves_closes_the_generator_where_it_stands_or_waits():
    async def waiting(closed: list[bool]) -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    for make in (waiting, lambda closed: pieces(b"a", *[b"b"] * 1000, closed=closed)):
        closed: list[bool] = []
        sent = asyncio.run(play(make(closed), at=b"a"))
        assert closed == [True]
        assert sent[-1]["more_body"]
        assert len(sent) < 100
