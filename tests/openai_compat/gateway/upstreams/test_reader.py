"""Bodies of answers, however they were cut: nothing is lost, nothing grows without bounds, and little waits in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from openai_compat.config import Upstream
from openai_compat.gateway.upstreams.reader import Reader
from openai_compat.gateway.upstreams.session import Session
from openai_compat.gateway.upstreams.wire import Reply

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n"
BODY = bytes(range(256)) * 4000  # a megabyte: more than is read ahead


def chunked(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


@asynccontextmanager
async def answered(answer: bytes) -> AsyncIterator[Reply]:
    """What an upstream that says ``answer`` is understood to have said."""

    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.transport.abort()
        over.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        session = Session(Upstream(base_url=address), URL(address), None)
        reply = await session.send("GET", URL(address), [], b"")
        assert isinstance(reply, Reply)
        try:
            yield reply
        finally:
            reply.close()
            await session.close()
            await asyncio.wait_for(over.wait(), 30)


async def read(answer: bytes, *, pause: float = 0.0) -> bytes:
    async with answered(answer) as reply:
        await asyncio.sleep(pause)
        pieces = []
        while piece := await reply.content.readany():
            pieces.append(piece)
        return b"".join(pieces)


@pytest.mark.parametrize("size", [3, 1000, 1 << 20])
@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_a_body_in_chunks_comes_whole(size: int, pause: float) -> None:
    body = BODY[: 3 * 50_000] if size == 3 else BODY
    answer = CHUNKED + b"\r\n" + b"".join(chunked(body, size))
    assert asyncio.run(read(answer, pause=pause)) == body


@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_a_packed_body_that_is_much_larger_unpacked_comes_whole(pause: float) -> None:
    body = bytes(8 << 20)
    packed = gzip.compress(body)
    head = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    assert asyncio.run(read(head + packed, pause=pause)) == body


def test_the_body_after_a_hundred_provisional_heads_comes_whole() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100 + HEAD + b"content-length: 5\r\n\r\nhello"
    assert asyncio.run(read(answer)) == b"hello"


def test_tiny_chunks_that_nobody_reads_stop_the_sender() -> None:
    async def go() -> int:
        answer = CHUNKED + b"\r\n" + b"".join(chunked(BODY, 1))
        async with answered(answer) as reply:
            assert type(reply.content) is Reader
            await asyncio.sleep(0.5)
            return len(reply.content._buffer)

    assert asyncio.run(go()) < len(BODY) / 2


def test_an_empty_queue_takes_next_to_nothing() -> None:
    async def go() -> int:
        async with answered(CHUNKED + b"\r\n" + b"5\r\nhello\r\n") as reply:
            assert await reply.content.readany() == b"hello"
            tracemalloc.start()
            try:
                reply.content._buffer.append(b"")
                reply.content._buffer.clear()
                return tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()

    assert asyncio.run(go()) < 300
