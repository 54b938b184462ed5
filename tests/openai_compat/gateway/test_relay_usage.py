"""What the relay books of requests to workers, however they end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
from typing import Any

import pytest
from litestar import Litestar, post
from msgspec import Struct

from openai_compat.http.endpoint import Endpoint
from openai_compat.http.errors import exception_handlers
from openai_compat.http.front import Front

PATH = "/v1/chat/completions"


class Ask(Struct, frozen=True):
    model: str


def make_app(relay) -> Any:
    @post(PATH, opt={"endpoint": Endpoint(Ask, lambda request: "generate_text")})
    async def relayed() -> None:
        raise AssertionError("the relay answers")

    return Front(
        Litestar([relayed], exception_handlers=exception_handlers, openapi_config=None, logging_config=None), relay.serve
    )


class Books:
    """What the relay in front of some workers has booked."""

    def __init__(self, world, running, ledger) -> None:
        self.world = world
        self.running = running
        self.ledger = ledger

    async def ask(self, **script: Any):
        wire = await self.running.connect()
        body = json.dumps({"model": "a", **script}).encode()
        wire.send("POST", PATH, body, {"content-type": "application/json"})
        self.prompt = math.ceil(len(body) / 4)  # as it is estimated
        return wire

    async def booked(self) -> tuple[int, int, int, int]:
        """Requests, prompt, completion and estimated tokens, once there are any."""
        await self.world.until(lambda: self.ledger.counters.since_start)
        (sums,) = self.ledger.counters.since_start.values()
        return sums.requests, sums.prompt, sums.completion, sums.estimated


@pytest.fixture
def books(arena, live, relay_to):
    @contextlib.asynccontextmanager
    async def make(**options: Any):
        async with arena({"a": {"options": options}}) as world:
            relay = relay_to(world.config, world.catalog, world.pool)
            async with live(make_app(relay)) as running:
                yield Books(world, running, relay._ledger)

    return make


@pytest.mark.parametrize("script", [{}, {"stream": True}, {"stream": True, "hold_after": 1}], ids=["whole", "stream", "left"])
def test_the_workers_counts_are_booked(books, in_time, script):
    async def scenario():
        async with books() as b:
            wire = await b.ask(usage=[7, 3, 2], **script)
            _, headers = await wire.head()
            if "hold_after" in script:
                await wire.chunk()
                wire.leave()
            elif "stream" in script:
                await wire.chunks()
            else:
                await wire.body(headers)
            assert await b.booked() == (1, 7, 3, 0)

    in_time(scenario())


def test_a_refusal_of_the_worker_counts_nothing(books, in_time):
    async def scenario():
        async with books() as b:
            wire = await b.ask(status=422)
            assert (await wire.head())[0] == 422
            await b.world.until(lambda: not b.world.pool.states()[0].active)
            assert b.ledger.counters.since_start == {}

    in_time(scenario())


def test_who_leaves_while_the_model_loads_has_used_nothing(books, in_time):
    async def scenario():
        async with books(load=1.0) as b:
            wire = await b.ask()
            await b.world.until(lambda: b.world.pool.states()[0].waiting)
            wire.leave()
            await b.world.until(lambda: not b.world.pool.states()[0].waiting)
            await (await b.ask(usage=[1, 1])).head()
            assert await b.booked() == (1, 1, 1, 0)

    in_time(scenario())


def test_a_stream_whose_worker_died_is_estimated(books, in_time):
    async def scenario():
        async with books() as b:
            wire = await b.ask(stream=True, chunks=100_000, delay=0.005)
            await wire.head()
            await wire.chunk()
            os.kill(int(b.world.events()[0][2]), signal.SIGKILL)
            await wire.chunks()
            requests, prompt, completion, estimated = await b.booked()
            assert (requests, prompt, estimated) == (1, b.prompt, prompt + completion)
            assert completion > 0

    in_time(scenario())


def test_an_account_is_settled_though_a_worker_never_says_that_it_is_done(books, in_time):
    async def scenario():
        async with books() as b:
            wire = await b.ask(silent=True)
            _, headers = await wire.head()
            size = len(await wire.body(headers))
            made = math.ceil(size / 4)
            assert await b.booked() == (1, b.prompt, made, b.prompt + made)

    in_time(scenario())
