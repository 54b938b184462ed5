"""Asking the relay: what becomes of answers, refusals, breaks, readers who are slow, and readers who leave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Struct

from openai_compat.errors import APIError, NotFound, RateLimited, Unavailable
from openai_compat.gateway.asking import LONGEST, Asker, Asking
from openai_compat.gateway.chats import PATH, Chats
from openai_compat.grants import ANYBODY
from openai_compat.http.endpoint import Endpoint

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
ASKER = Asker(grant=ANYBODY, request_id="r1")


class Ask(Struct, frozen=True):
    model: str = "a"


class Scripted:
    """In the place of the relay: ``script`` answers, and what it saw stays."""

    def __init__(self, script: Callable[..., Any]) -> None:
        self._script = script
        self.ended = asyncio.Event()
        self.scope: Any = None

    async def serve(self, scope: Any, receive: Any, send: Any, endpoint: Endpoint) -> None:
        self.scope = scope
        try:
            await self._script(scope, receive, send)
        finally:
            self.ended.set()


def asking(relay: Any) -> Asking:
    @asynccontextmanager
    async def using() -> AsyncIterator[Any]:
        yield relay

    return Asking(using, lambda: {PATH: Endpoint(Ask, lambda request: "generate_text")})


async def begin(send: Any, status: int = 200, headers: Any = EVENTS) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def more(send: Any, body: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def alone() -> bool:
    """Whether nothing runs on this loop but who asks, and the timeout's own task."""
    return len(asyncio.all_tasks()) == 1


def test_an_answer_comes_in_its_pieces_and_the_request_as_it_was_made(in_time) -> None:
    async def script(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert (message["body"], message["more_body"]) == (b'{"a":1}', False)
        scope["state"].update(model="m", headers=[(b"x-ratelimit-limit-requests", b"9")], ttfb=1)
        await begin(send)
        await more(send, b"one")
        await more(send, b"")
        await more(send, b"two", last=True)

    async def scenario() -> None:
        relay, state = Scripted(script), dict[str, Any]()
        asker = Asker(grant=ANYBODY, request_id="r1", headers=((b"user-agent", b"me"),), state=state)
        async with asking(relay).open(PATH, b'{"a":1}', asker) as reply:
            assert (reply.status, [chunk async for chunk in reply.chunks()]) == (200, [b"one", b"two"])
        assert state == {"model": "m", "headers": [(b"x-ratelimit-limit-requests", b"9")]}
        assert relay.scope["headers"] == [(b"user-agent", b"me"), (b"content-type", b"application/json")]
        assert alone()

    in_time(scenario())


def test_an_answer_without_an_end_is_not_read_for_ever(in_time) -> None:
    """Another server's: what is read of it is held in memory."""
    sent = 0

    async def script(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await begin(send)
        while sent <= 2 * LONGEST:
            await more(send, piece)
            sent += len(piece)

    async def read() -> None:
        async with asking(Scripted(script)).open(PATH, b"{}", ASKER) as reply:
            async for _ in reply.chunks():
                pass

    async def scenario() -> None:
        with pytest.raises(APIError) as caught:
            await read()
        assert (caught.value.retry, alone()) == (False, True)

    piece = b"x" * (1 << 20)
    in_time(scenario())


def test_a_path_that_is_not_relayed_cannot_be_asked(in_time) -> None:
    async def scenario() -> None:
        with pytest.raises(NotFound):
            async with asking(None).open("/v1/nothing", b"{}", ASKER):
                pass

    in_time(scenario())


def test_what_is_raised_is_what_the_asker_gets_with_all_that_it_says(in_time) -> None:
    refusal = RateLimited("too many", retry_after=7)
    refusal.limits = ((b"x-ratelimit-remaining-requests", b"0"),)

    async def script(scope: Any, receive: Any, send: Any) -> None:
        raise refusal

    async def scenario() -> None:
        with pytest.raises(RateLimited) as caught:
            async with asking(Scripted(script)).open(PATH, b"{}", ASKER):
                pass
        assert caught.value is refusal
        assert alone()

    in_time(scenario())


@pytest.mark.parametrize("failure", [ValueError("a bug"), APIError("later")])
def test_a_failure_after_the_first_piece_comes_after_it(in_time, failure: Exception) -> None:
    async def script(scope: Any, receive: Any, send: Any) -> None:
        await begin(send)
        await more(send, b"one")
        raise failure

    async def scenario() -> None:
        seen: list[bytes] = []

        async def read() -> None:
            async with asking(Scripted(script)).open(PATH, b"{}", ASKER) as reply:
                async for chunk in reply.chunks():
                    seen.append(chunk)

        with pytest.raises(type(failure)):
            await read()
        assert (seen, alone()) == ([b"one"], True)

    in_time(scenario())


def test_an_answer_that_was_never_begun_or_never_ended_is_a_failure(in_time) -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await begin(send)
        await more(send, b"one")

    async def scenario() -> None:
        for script in (nothing, half):
            with pytest.raises(APIError):
                async with asking(Scripted(script)).open(PATH, b"{}", ASKER) as reply:
                    await reply.read()

    in_time(scenario())


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "code"),
    [
        (503, [(b"retry-after", b"9"), (b"x-should-retry", b"false")], {"code": "model_loading"}, Unavailable, "model_loading"),
        (429, [], {"code": "rate_limit_exceeded", "param": "model"}, RateLimited, "rate_limit_exceeded"),
        (418, [], {"code": None}, APIError, None),
        (500, [(b"retry-after", b"soon")], None, APIError, None),
    ],
)
def test_a_refusal_is_raised_with_its_status_code_and_times(in_time, status, headers, body, kind, code) -> None:
    async def script(scope: Any, receive: Any, send: Any) -> None:
        error = b"<html>" if body is None else json.dumps({"error": {"message": "no", "type": "t", **body}}).encode()
        await begin(send, status, [*JSON, *headers])
        await more(send, error[:3])
        await more(send, error[3:], last=True)

    async def scenario() -> None:
        with pytest.raises(kind) as caught:
            async with asking(Scripted(script)).open(PATH, b"{}", ASKER):
                pass
        assert caught.value.code == code
        times = (caught.value.retry_after, caught.value.retry)
        assert times == ((9.0, False) if status == 503 else (None, None))

    in_time(scenario())


def test_a_reader_who_leaves_before_the_first_byte_ends_the_work(in_time) -> None:
    async def script(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    async def scenario() -> None:
        relay = Scripted(script)

        async def read() -> None:
            async with asking(relay).open(PATH, b"{}", ASKER):
                raise AssertionError("there is no answer")

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.wait({reading})
        assert (reading.cancelled(), relay.ended.is_set(), alone()) == (True, True, True)

    in_time(scenario())


def test_a_reader_who_is_slow_holds_up_whoever_sends_and_one_who_leaves_lets_go(in_time) -> None:
    sent = 0

    async def script(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await receive()
        await begin(send)
        for _ in range(1000):
            await more(send, b"x" * 1000)
            sent += 1

    async def scenario() -> None:
        async with asking(Scripted(script)).open(PATH, b"{}", ASKER) as reply:
            pieces = reply.chunks()
            await anext(pieces)
            await asyncio.sleep(0.05)
            assert sent < 10
            await anext(pieces)
            await asyncio.sleep(0.05)
            assert sent < 11
        await pieces.aclose()
        assert alone()

    in_time(scenario())


@pytest.fixture
def real(arena, relay_to):
    """The real relay in front of a real worker process."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Asking]]:
        async with arena({"a": {}}) as world:
            relay = relay_to(world.config, world.catalog, world.pool)
            yield world, asking(relay)

    return make


def chat(**script: Any) -> bytes:
    return json.dumps({"model": "a", **script}).encode()


def test_the_worker_s_work_ends_when_the_reader_leaves_in_mid_stream(real, in_time) -> None:
    async def scenario() -> None:
        async with real() as (world, asking):
            async with asking.open(PATH, chat(stream=True, chunks=1000, delay=0.02), ASKER) as reply:
                pieces = reply.chunks()
                assert b'{"n": 0}' in await anext(pieces)
            await world.until(lambda: any(event[0] == "disconnected" for event in world.events()))
            await world.until(lambda: not any(state.active for state in world.pool.states()))
            await pieces.aclose()

    in_time(scenario())


def test_a_slow_reader_holds_up_the_worker(real, in_time) -> None:
    """Ten megabytes do not fit into whatever is between the two; so the worker has not sent them while nobody reads."""

    async def scenario() -> None:
        async with real() as (world, asking), asking.open(PATH, chat(stream=True, chunks=700_000), ASKER) as reply:
            pieces = reply.chunks()
            size = len(await anext(pieces))
            await asyncio.sleep(1.0)
            assert any(state.active for state in world.pool.states())
            assert size + sum([len(await anext(pieces)) for _ in range(3)]) < 1 << 20
            await pieces.aclose()

    in_time(scenario())


def test_a_worker_that_dies_in_mid_stream_is_an_error_for_whoever_reads_chats(real, in_time) -> None:
    async def scenario() -> None:
        async with real() as (world, asking):

            async def read() -> None:
                async with Chats(asking).stream({"model": "a", "chunks": 1000, "delay": 0.02}, ASKER) as chunks:
                    await anext(chunks)
                    os.kill(int(world.events()[-1][2]), signal.SIGKILL)
                    async for _ in chunks:
                        pass

            with pytest.raises(APIError) as caught:
                await read()
            assert caught.value.code == "worker_died"

    in_time(scenario())
