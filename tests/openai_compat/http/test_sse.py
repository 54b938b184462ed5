import asyncio
import json
import logging

import pytest
from litestar import Litestar, Response, get, post
from litestar.params import FromPath
from sse_starlette import EventSourceResponse, ServerSentEvent

from openai_compat.errors import InvalidRequest, RateLimited, WorkerDied
from openai_compat.http.errors import exception_handlers
from openai_compat.http.sse import PING, StreamTiming, event_source, sse

NEVER = StreamTiming(first_byte_timeout=60, ping_interval=60)
OFTEN = StreamTiming(first_byte_timeout=0.05, ping_interval=0.05)


def app_of(events, timing=NEVER) -> Litestar:
    @post("/stream", status_code=200)
    async def stream() -> Response:
        return await sse(events(), timing=timing)

    return Litestar([stream], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)


class Witness:
    """A stream that waits after its first event, and tells how it ended."""

    def __init__(self, *first: bytes) -> None:
        self.first = first
        self.ended = asyncio.Event()

    async def __call__(self):
        try:
            for event in self.first:
                yield event
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def test_each_event_goes_out_at_once_as_one_write(live, in_time):
    step = asyncio.Event()

    async def events():
        yield b"data: 1\n\n"
        await step.wait()
        yield b"data: 2\n\ndata: 3\n\n"
        yield b"data: [DONE]\n\n"

    async def scenario():
        async with live(app_of(events)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            status, headers = await wire.head()
            assert status == 200
            assert headers["content-type"] == "text/event-stream; charset=utf-8"
            assert headers["cache-control"] == "no-cache"
            assert headers["x-accel-buffering"] == "no"
            assert "content-encoding" not in headers
            assert await wire.chunk() == b"data: 1\n\n"
            step.set()
            assert await wire.chunks() == [b"data: 2\n\ndata: 3\n\n", b"data: [DONE]\n\n"]

    in_time(scenario())


def test_the_connection_serves_the_next_request_after_a_stream(live, in_time):
    async def events():
        yield b"data: 1\n\n"

    async def scenario():
        async with live(app_of(events)) as server:
            wire = await server.connect()
            for _ in range(3):
                wire.send("POST", "/stream")
                await wire.head()
                assert await wire.chunks() == [b"data: 1\n\n"]

    in_time(scenario())


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (InvalidRequest("no", param="messages"), 400, "invalid_request_error"),
        (RateLimited("later", retry_after=7), 429, "rate_limit_error"),
        (ValueError("secret"), 500, "server_error"),
    ],
)
def test_a_failure_before_the_first_event_has_its_own_status(live, in_time, failure, status, kind):
    async def events():
        raise failure
        yield b""

    async def scenario():
        async with live(app_of(events)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            seen, headers = await wire.head()
            assert seen == status
            assert headers["content-type"] == "application/json"
            assert headers.get("retry-after") == ("7" if status == 429 else None)
            body = await wire.body(headers)
            assert json.loads(body)["error"]["type"] == kind
            assert b"secret" not in body

    in_time(scenario())


def test_a_failure_after_the_first_event_is_an_error_event_and_no_done(live, in_time):
    async def events():
        yield b"data: 1\n\n"
        raise WorkerDied("the model's process ended")

    async def scenario():
        async with live(app_of(events)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            first, second = await wire.chunks()
            assert first == b"data: 1\n\n"
            assert json.loads(second.removeprefix(b"data: "))["error"]["code"] == "worker_died"

    in_time(scenario())


def test_a_foreign_exception_after_the_first_event_is_logged_and_hidden(live, in_time, caplog):
    async def events():
        yield b"data: 1\n\n"
        raise ValueError("secret")

    async def scenario():
        async with live(app_of(events)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            _, second = await wire.chunks()
            assert b"internal_error" in second
            assert b"secret" not in second

    with caplog.at_level(logging.ERROR):
        in_time(scenario())
    assert "secret" in caplog.text


def test_an_answer_is_begun_with_a_ping_when_its_first_event_is_late(live, in_time):
    step = asyncio.Event()

    async def events():
        await step.wait()
        yield b"data: 1\n\n"

    async def scenario():
        async with live(app_of(events, OFTEN)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            status, _ = await wire.head()
            assert status == 200
            assert await wire.chunk() == PING
            assert await wire.chunk() == PING
            step.set()
            rest = [chunk for chunk in await wire.chunks() if chunk != PING]
            assert rest == [b"data: 1\n\n"]

    in_time(scenario())


def test_a_late_failure_of_an_answer_begun_with_a_ping_is_an_event(live, in_time):
    step = asyncio.Event()

    async def events():
        await step.wait()
        raise InvalidRequest("no")
        yield b""

    async def scenario():
        async with live(app_of(events, OFTEN)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            assert await wire.chunk() == PING
            step.set()
            *pings, last = await wire.chunks()
            assert set(pings) <= {PING}
            assert b"invalid_request_error" in last

    in_time(scenario())


def test_silence_in_the_middle_is_broken_by_pings(live, in_time):
    async def scenario():
        witness = Witness(b"data: 1\n\n")
        async with live(app_of(witness, OFTEN)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            assert await wire.chunk() == b"data: 1\n\n"
            assert [await wire.chunk() for _ in range(3)] == [PING] * 3

    in_time(scenario())


def test_without_an_interval_there_are_no_pings_after_the_one_that_begins_the_answer(live, in_time):
    async def events():
        await asyncio.sleep(0.1)
        yield b"data: 1\n\n"
        await asyncio.sleep(0.1)

    async def scenario():
        timing = StreamTiming(first_byte_timeout=0, ping_interval=0)
        async with live(app_of(events, timing)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            assert await wire.chunks() == [PING, b"data: 1\n\n"]

    in_time(scenario())


def test_a_busy_stream_is_not_pinged(live, in_time):
    async def events():
        for _ in range(50):
            yield b"data: 1\n\n"
            await asyncio.sleep(0.005)

    async def scenario():
        timing = StreamTiming(first_byte_timeout=5, ping_interval=5)
        async with live(app_of(events, timing)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            assert set(await wire.chunks()) == {b"data: 1\n\n"}

    in_time(scenario())


@pytest.mark.parametrize("first", [(), (b"data: 1\n\n",)], ids=["before", "after"])
def test_a_client_that_leaves_ends_the_stream_where_it_waits(live, in_time, first):
    async def scenario():
        witness = Witness(*first)
        async with live(app_of(witness)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            for _ in first:
                await wire.head()
                await wire.chunk()
            await asyncio.sleep(0.02)
            wire.leave()
            await witness.ended.wait()

    in_time(scenario())


def test_a_client_that_leaves_without_reading_ends_the_stream_where_it_stands(live, in_time):
    ended = asyncio.Event()
    produced = 0

    async def events():
        nonlocal produced
        try:
            while True:
                produced += 1
                yield b"x" * 65536
        finally:
            ended.set()

    async def scenario():
        async with live(app_of(events)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            await asyncio.sleep(0.1)
            assert produced < 200, "a reader that does not read must hold the stream"
            wire.leave()
            await ended.wait()

    in_time(scenario())


def test_shutdown_ends_a_stream_after_the_grace(live, in_time):
    async def scenario():
        witness = Witness(b"data: 1\n\n")
        async with live(app_of(witness)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            await server.stop()
            await witness.ended.wait()

    in_time(scenario())


def test_an_iterator_that_is_no_generator_is_streamed_too(live, in_time):
    class Once:
        def __init__(self):
            self.left = [b"data: 1\n\n"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    async def scenario():
        async with live(app_of(Once)) as server:
            wire = await server.connect()
            wire.send("POST", "/stream")
            await wire.head()
            assert await wire.chunks() == [b"data: 1\n\n"]

    in_time(scenario())


def test_32_streams_at_once_are_not_mixed(live, in_time):
    @get("/{number:int}")
    async def stream(number: FromPath[int]) -> Response:
        async def events():
            for step in range(30):
                yield f"data: {number}.{step}\n\n".encode()
                await asyncio.sleep(0)

        return await sse(events(), timing=NEVER)

    async def one(server, number):
        wire = await server.connect()
        wire.send("GET", f"/{number}")
        await wire.head()
        return b"".join(await wire.chunks())

    async def scenario():
        async with live(Litestar([stream], openapi_config=None, logging_config=None)) as server:
            seen = await asyncio.gather(*(one(server, number) for number in range(32)))
            for number, text in enumerate(seen):
                assert text == "".join(f"data: {number}.{step}\n\n" for step in range(30)).encode()

    in_time(scenario())


# ---------------------------------------------------------------- sse-starlette


def source_app(events, timing) -> Litestar:
    @get("/events")
    async def stream() -> EventSourceResponse:
        return event_source(events(), timing=timing)

    return Litestar([stream], openapi_config=None, logging_config=None)


class Source(Witness):
    async def __call__(self):
        try:
            yield ServerSentEvent(data="loaded", event="model")
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def test_the_event_source_sends_events_and_pings(live, in_time):
    async def scenario():
        source = Source()
        async with live(source_app(source, OFTEN)) as server:
            wire = await server.connect()
            wire.send("GET", "/events")
            status, headers = await wire.head()
            assert status == 200
            assert headers["content-type"].startswith("text/event-stream")
            assert headers["cache-control"] == "no-cache"
            assert await wire.chunk() == b"event: model\r\ndata: loaded\r\n\r\n"
            for _ in range(2):
                assert (await wire.chunk()).startswith(b": ping")

    in_time(scenario())


def test_the_event_source_ends_when_its_client_leaves(live, in_time):
    async def scenario():
        source = Source()
        async with live(source_app(source, NEVER)) as server:
            wire = await server.connect()
            wire.send("GET", "/events")
            await wire.head()
            await wire.chunk()
            wire.leave()
            await source.ended.wait()

    in_time(scenario())
