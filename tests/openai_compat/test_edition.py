"""Which configuration a request belongs to, on a whole gateway with its models in its own process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from openai_compat.app import create_gateway
from openai_compat.config import Config, ConfigError, MemoryBudget, Metering, Model, Server, Upstream

ECHO = Model(kind="echo")


class World:
    """A gateway, and what it reads next."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(inline=True, cache_dir=str(folder))
        self.written: Any = self.config(models={"echo": ECHO})
        self.gateway = create_gateway(self.written, read=self._read)
        self.editions: Any = self.gateway._app

    def config(self, **settings: Any) -> Config:
        of_server = ("max_body", "max_in_flight", "public_url", "request_timeout")
        server = {name: settings.pop(name) for name in of_server if name in settings}
        return Config(server=Server(inline=True, cache_dir=self.server.cache_dir, **server), **settings)

    def _read(self) -> Config:
        if isinstance(self.written, Exception):
            raise self.written
        return self.written

    async def take(self, **settings: Any) -> tuple[str, ...]:
        self.written = self.config(**settings)
        return await self.gateway.reload.now()

    async def ask(self, path: str = "/v1/chat/completions", gate: asyncio.Event | None = None, **body: Any) -> tuple[int, Any]:
        """Status and answer. With a ``gate`` the second half of the body comes once it is open."""
        method, data = ("POST", json.dumps(body).encode()) if body else ("GET", b"")
        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip
        pieces = [data[:10], data[10:]]
        got: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not pieces:
                await asyncio.Event().wait()
            if len(pieces) == 1 and gate is not None:
                await gate.wait()
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            got.append(message)

        await self.gateway(scope, receive, send)  # type: ignore[arg-type]
        return got[0]["status"], json.loads(b"".join(message.get("body", b"") for message in got[1:]))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[World]:
    world = World(folder)
    events: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    lifespan = asyncio.ensure_future(world.gateway({"type": "lifespan", "asgi": {}, "state": {}}, events.get, told.put))  # type: ignore[arg-type]
    events.put_nowait({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    try:
        yield world
    finally:
        events.put_nowait({"type": "lifespan.shutdown"})
        assert (await told.get())["type"] == "lifespan.shutdown.complete"
        await lifespan


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "x" * 100}]}


def test_a_request_that_has_begun_keeps_its_edition_which_is_closed_when_it_is_done(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as world:
            gate, old = asyncio.Event(), world.editions.now
            begun = asyncio.create_task(world.ask(gate=gate, **chat("echo")))
            await asyncio.sleep(0)
            assert await world.take(models={"echo": ECHO}, max_body=50) == ("server.max_body",)
            assert (await world.ask(**chat("echo")))[0] == 413
            assert not old.left.is_set()
            gate.set()
            assert (await begun)[0] == 200
            await asyncio.wait_for(old.left.wait(), 5)

    asyncio.run(scenario())


def test_an_edition_is_closed_once_and_only_after_its_last_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as world:
            closed: list[int] = []
            old, gate = world.editions.now, asyncio.Event()

            async def close() -> None:
                closed.append(old.requests)

            monkeypatch.setattr(old.upstreams, "close", close)
            begun = asyncio.create_task(world.ask(gate=gate, **chat("echo")))
            await asyncio.sleep(0)
            await world.take(models={"echo": ECHO}, request_timeout=9.0)
            await asyncio.sleep(0.05)
            assert closed == []
            gate.set()
            await begun
            await asyncio.sleep(0.05)
            assert closed == [0]

    asyncio.run(scenario())


def test_models_in_this_process_come_change_and_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as world:
            assert (await world.ask(**chat("echo")))[0] == 200
            await world.take(models={"echo": Model(kind="echo", context_length=64), "more": ECHO})
            assert [(await world.ask(**chat(name)))[0] for name in ("echo", "more")] == [200, 200]
            await world.take(models={"more": ECHO}, aliases={"name": "more"})
            assert [(await world.ask(**chat(name)))[0] for name in ("echo", "more", "name")] == [404, 200, 200]
            assert {model["id"] for model in (await world.ask("/v1/models"))[1]["data"]} == {"more", "name"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "refused",
    [
        ConfigError("a mistake"),
        {"memory": MemoryBudget(host="12 parsecs")},
        {"upstreams": {"u": Upstream(base_url="https://h/v1", ca_file="/nowhere.pem")}},
    ],
)
def test_what_is_refused_leaves_every_part_as_it_was(tmp_path: Path, refused: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as world:
            before = world.editions.now
            world.written = refused if isinstance(refused, Exception) else world.config(models={"other": ECHO}, **refused)
            with pytest.raises(ConfigError) as refusal:
                await world.gateway.reload.now()
            assert "\n" not in str(refusal.value)
            assert world.editions.now is before
            assert [(await world.ask(**chat(name)))[0] for name in ("echo", "other")] == [200, 404]

    asyncio.run(scenario())


def test_limits_of_keys_are_those_of_the_newest_configuration(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as world:
            await world.take(models={"echo": ECHO}, metering=Metering(requests_per_minute=1))
            assert 429 in [(await world.ask(**chat("echo")))[0] for _ in range(3)]
            await world.take(models={"echo": ECHO})
            assert (await world.ask(**chat("echo")))[0] == 200

    asyncio.run(scenario())


def test_lists_of_unchanged_upstreams_are_known_at_once_and_new_ones_are_asked_first(tmp_path: Path) -> None:
    asked: list[str] = []

    async def models(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        await asyncio.sleep(0.1 if name not in asked else 5)
        asked.append(name)
        return web.json_response({"object": "list", "data": [{"id": f"{name}-model", "object": "model"}]})

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/{name}/models", models)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        a, b = (Upstream(base_url=f"{base}/{name}", discover=True) for name in "ab")
        async with running(tmp_path) as world:
            await world.take(upstreams={"a": a})
            assert world.editions.now.offers.names() == ("a-model",)
            await world.take(upstreams={"a": a, "b": b})
            assert world.editions.now.offers.names() == ("a-model", "b-model")
            assert asked == ["a", "b"]
            assert [model["id"] for model in (await world.ask("/v1/models"))[1]["data"]] == ["a-model", "b-model"]
        await runner.cleanup()

    asyncio.run(scenario())


def test_a_server_that_drains_says_so_and_reloads_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as world:
            assert await world.ask("/health/ready") == (200, {"status": "ok"})
            world.gateway.drain()
            assert await world.ask("/health/ready") == (503, {"status": "draining"})
            with pytest.raises(Exception, match="shutting down"):
                await world.take(models={})
            assert (await world.ask(**chat("echo")))[0] == 200

    asyncio.run(scenario())


def test_another_most_of_requests_at_once_holds_from_the_reload_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as world:
            crowd = world.gateway.crowd
            assert not crowd.objection()
            assert not crowd.objection()
            await world.take(models={"echo": ECHO}, max_in_flight=2)
            assert "server.max_in_flight" in crowd.objection()

    asyncio.run(scenario())
