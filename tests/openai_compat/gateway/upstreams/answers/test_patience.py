"""Waiting for an upstream: what counts as silence, and that nobody's cancellation is taken for a pause."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol

from openai_compat.gateway.order import Failure
from openai_compat.gateway.upstreams.patience import GLANCE, Patience
from openai_compat.http.delays import Delay

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENT = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": None}]}).encode() + b"\n\n"
END = EVENT.replace(b"null", b'"stop"') + b"data: [DONE]\n\n"


class Silent:
    """A response whose body never comes, unless a test feeds it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.transport = asyncio.Transport()
        self.content = aiohttp.StreamReader(protocol, 1 << 16, loop=loop)
        self.connection = None


def patience_with(response: Any, *, first: float = 10.0, idle: float = 10.0, deadline: float = 10.0) -> Patience:
    return Patience(response, first=first, idle=idle, deadline=time.monotonic() + deadline, glances=Delay(GLANCE))


def test_a_client_that_is_slow_to_read_is_not_held_against_the_upstream(perform: Any) -> None:
    async def take(chunk: bytes) -> None:
        await asyncio.sleep(0.4)

    steps = [step for _ in range(4) for step in (EVENT, 0.05)]
    seen = perform(HEAD, *steps, END, take=take, idle_timeout=0.3)
    assert (seen.body, seen.error) == (EVENT * 4 + END, None)


def test_a_read_comes_back_after_each_pause_and_loses_nothing() -> None:
    async def go() -> list[bytes | None]:
        response = Silent()
        patience = patience_with(response)
        patience.pause_for(0.05)
        seen = [await patience.read(), await patience.read()]
        response.content.feed_data(b"abc")
        seen.append(await patience.read())
        response.content.feed_eof()
        seen.append(await patience.read())
        patience.close()
        return seen

    assert asyncio.run(go()) == [None, None, b"abc", b""]


@pytest.mark.parametrize("offset", [-0.002, -0.001, 0.0, 0.0005, 0.001, 0.002])
def test_a_cancellation_at_the_moment_of_a_pause_is_not_lost(offset: float) -> None:
    async def go() -> bool:
        patience = patience_with(Silent())
        patience.pause_for(0.03)

        async def read_on() -> None:
            while True:
                await patience.read()

        task = asyncio.ensure_future(read_on())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.03 + offset, task.cancel)
        await asyncio.wait({task}, timeout=10)
        patience.close()
        return task.cancelled()

    assert asyncio.run(go())


def test_a_time_limit_around_a_read_is_the_callers() -> None:
    async def go() -> None:
        patience = patience_with(Silent())
        patience.pause_for(0.05)

        async def read_on() -> None:
            while True:
                await patience.read()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_on(), 0.2)
        patience.close()

    asyncio.run(go())


@pytest.mark.parametrize(("limits", "cause"), [({"first": 0.1}, "upstream"), ({"deadline": 0.1}, "request")])
def test_waiting_ends_in_a_failure(limits: dict[str, float], cause: str) -> None:
    async def go() -> Failure:
        patience = patience_with(Silent(), **limits)
        with pytest.raises(Failure) as caught:
            await patience.read()
        patience.close()
        return caught.value

    failure = asyncio.run(go())
    assert failure.cause == "timeout"
    assert cause in failure.error.message


def test_an_event_starts_the_clock_anew_and_a_comment_five_times_at_most() -> None:
    async def go(beat: str) -> float:
        response = Silent()
        patience = patience_with(response, first=0.1, idle=0.1)
        began = time.monotonic()

        async def feed() -> None:
            while time.monotonic() - began < 2:
                response.content.feed_data(b"x")
                await asyncio.sleep(0.02)

        feeding = asyncio.ensure_future(feed())
        try:
            while time.monotonic() - began < 1:
                await patience.read()
                getattr(patience, beat, lambda: None)()
        except Failure:
            pass
        feeding.cancel()
        patience.close()
        return time.monotonic() - began

    assert 0.05 < asyncio.run(go("nothing")) < 0.45
    assert 0.45 < asyncio.run(go("comment")) < 0.95
    assert asyncio.run(go("event")) >= 1
