"""Waiting for an engine: what counts as serving, and who may answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from openai_compat.config import Upstream
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.engines import health as module
from openai_compat.gateway.engines.health import Health
from openai_compat.gateway.engines.ports import Ports


def asking(port: int, tell: Callable[[str], None] = print) -> Health:
    at = f"http://127.0.0.1:{port}"
    return Health("m", at + "/ready", Upstream(base_url=at + "/v1", headers={"Authorization": "Bearer secret"}), tell)


@asynccontextmanager
async def engine(
    *statuses: int, tell: Callable[[str], None] = print, models: bytes = b""
) -> AsyncIterator[tuple[Health, list[str]]]:
    """Answers with one status after the other, the last again and again, and notes the keys it was shown."""
    keys: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        keys.append(request.headers["Authorization"])
        return web.Response(status=statuses[min(len(keys), len(statuses)) - 1], headers={"Location": "/ok"})

    async def elsewhere(request: web.Request) -> web.Response:
        return web.Response(body=models)

    app = web.Application()
    app.router.add_get("/ready", answer)
    app.router.add_get("/ok", elsewhere)
    app.router.add_get("/v1/models", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield asking(runner.addresses[0][1], tell), keys
    finally:
        await runner.cleanup()


def test_it_serves_once_it_answers_200(caplog: pytest.LogCaptureFixture) -> None:
    stages: list[str] = []

    async def check() -> list[str]:
        async with engine(503, 503, 302, 404, 200, tell=stages.append) as (health, keys):
            await health.wait()
            return keys

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(check()) == ["Bearer secret"] * 5
    assert set(stages) == {"loading"}
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"m answers {status} where its health is asked" for status in (302, 404)
    ]


def test_it_is_asked_until_somebody_listens() -> None:
    async def check() -> None:
        waiting = asyncio.ensure_future(asking(Ports().take()).wait())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(check())


def test_a_stranger_in_its_place_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_strangers", lambda port: True)

    async def check() -> None:
        async with engine(200) as (health, _):
            await health.wait()

    with pytest.raises(ModelUnavailable, match="was taken by another program"):
        asyncio.run(check())


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (b'{"object": "list", "data": [{"id": "/models/a.gguf"}]}', ("/models/a.gguf",)),
        (b'{"data": [{"id": "a"}, {"id": "b"}]}', ("a", "b")),
        (b"no such page", ()),
    ],
)
def test_it_is_asked_what_it_calls_its_models(page: bytes, names: tuple[str, ...]) -> None:
    async def check() -> tuple[str, ...]:
        async with engine(models=page) as (health, _):
            return await health.names()

    assert asyncio.run(check()) == names


def test_one_that_is_gone_tells_no_names() -> None:
    assert asyncio.run(asking(Ports().take()).names()) == ()
