"""Canaries of several keys go through one gateway and one worker side by side: each is in the answers of its own key only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

import pytest
from litestar import Litestar, post
from msgspec import Struct, structs

from openai_compat.config import AnswerCache
from openai_compat.grants import Grant
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.errors import exception_handlers
from openai_compat.http.front import Front

TENANTS = ("alice", "bob", "carol", "dave")
SHARED = "the same prompt for all"


class Ask(Struct, frozen=True):
    model: str
    prompt: str = ""
    temperature: float = 0.0


@post("/v1/completions", opt={"endpoint": Endpoint(Ask, lambda request: "generate_text")})
async def relayed() -> None:
    raise RuntimeError("the relay answers")


@pytest.fixture
def gateway(arena, live, relay_to):
    """A server in front of one worker, which tells what it was sent; who asks stands in ``x-tenant``, as keys' owners do."""

    @contextlib.asynccontextmanager
    async def make(**cache):
        async with arena({"a": {}}) as world:
            config = structs.replace(world.config, cache=AnswerCache(**cache))
            relay = relay_to(config, world.catalog, world.pool)
            app = Litestar([relayed], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)
            front = Front(app, relay.serve)

            async def known(scope, receive, send):
                if scope["type"] == "http":
                    tenant = dict(scope["headers"])[b"x-tenant"].decode()
                    scope.setdefault("state", {}).update(grant=Grant(key_id=tenant), key_id=tenant)
                await front(scope, receive, send)

            async with live(known) as running:
                yield running

    return make


async def ask(running: Any, tenant: str, prompt: str, **fields: Any) -> dict[str, Any]:
    wire = await running.connect()
    body = json.dumps({"model": "a", "prompt": prompt, "temperature": 0, **fields}).encode()
    wire.send("POST", "/v1/completions", body, {"content-type": "application/json", "x-tenant": tenant})
    _, head = await wire.head()
    return {"head": head, "text": (await wire.body(head)).decode()}


async def leave(running: Any, tenant: str, prompt: str) -> None:
    """A client that goes while its answer is on its way."""
    wire = await running.connect()
    body = json.dumps({"model": "a", "prompt": prompt, "stream": True, "chunks": 50, "delay": 0.01}).encode()
    wire.send("POST", "/v1/completions", body, {"content-type": "application/json", "x-tenant": tenant})
    await wire.head()
    wire.leave()


@pytest.mark.parametrize("cache", [{}, {"size": 2**20}], ids=["without kept answers", "with kept answers"])
def test_every_answer_is_that_of_its_own_key(gateway, in_time, cache: dict[str, Any]) -> None:
    """A hundred requests, twenty of them left, over connections to the worker that are used again and again."""

    async def run() -> None:
        async with gateway(**cache) as running:
            dice = random.Random(7)
            asked = [(dice.choice(TENANTS), f"canary-{number}" if number % 3 else SHARED) for number in range(100)]
            gone = [leave(running, tenant, f"{tenant}-{prompt}") for tenant, prompt in asked[::5]]
            found = await asyncio.gather(*(ask(running, t, p if p == SHARED else f"{t}-{p}") for t, p in asked), *gone)
            for (tenant, prompt), answer in zip(asked, found, strict=False):
                told = json.loads(answer["text"])
                assert told["facts"]["cache_salt"] == tenant
                assert told["body"]["prompt"] == (prompt if prompt == SHARED else f"{tenant}-{prompt}")
                assert [other for other in TENANTS if other != tenant and other in answer["text"]] == []

    in_time(run())


def test_a_kept_answer_is_kept_for_one_key(gateway, in_time) -> None:
    async def run() -> None:
        async with gateway(size=2**20) as running:
            for tenant in TENANTS:
                first, again = await ask(running, tenant, SHARED), await ask(running, tenant, SHARED)
                assert (first["head"]["x-cache"], again["head"]["x-cache"]) == ("miss", "hit")
                assert json.loads(again["text"])["facts"]["cache_salt"] == tenant

    in_time(run())
