"""Waiting for an engine: what counts as serving, and who may answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.engines import health
from openai_compat.gateway.engines.health import Health


@asynccontextmanager
async def engine(*statuses: int) -> AsyncIterator[tuple[str, int, list[str]]]:
    """Answers with one status after the other, the last again and again, and notes the keys it was shown."""
    keys: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        keys.append(request.headers["Authorization"])
        return web.Response(status=statuses[min(len(keys), len(statuses)) - 1], headers={"Location": "/ok"})

    async def elsewhere(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/ready", answer)
    app.router.add_get("/ok", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/ready", port, keys
    finally:
        await runner.cleanup()


def test_it_serves_once_it_answers_200(caplog: pytest.LogCaptureFixture) -> None:
    stages: list[str] = []

    async def check() -> list[str]:
        async with engine(503, 503, 302, 404, 200) as (url, port, keys):
            await Health("m", url, port, "secret", stages.append).wait()
            return keys

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(check()) == ["Bearer secret"] * 5
    assert set(stages) == {"loading"}
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"m answers {status} where its health is asked" for status in (302, 404)
    ]


def test_it_is_asked_until_somebody_listens() -> None:
    async def check() -> None:
        async with engine(200) as (_, port, _):
            pass
        waiting = asyncio.ensure_future(Health("m", f"http://127.0.0.1:{port}/ready", port, "secret", print).wait())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(check())


def test_a_stranger_in_its_place_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "is_strangers", lambda port: True)

    async def check() -> None:
        async with engine(200) as (url, port, _):
            await Health("m", url, port, "secret", print).wait()

    with pytest.raises(ModelUnavailable, match="was taken by another program"):
        asyncio.run(check())
