"""The routes as a worker serves them, around a real runner and the echo handler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from handlers.echo import EchoHandler
from handlers.types import ModelSpec
from openai_compat.app import create_worker
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import RelayFacts
from openai_compat.worker.runner import Runner

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


class Recording(EchoHandler):
    """Echo that remembers the requests it was given."""

    def load_model(self, report) -> None:
        super().load_model(report)
        self.seen: list[Any] = []

    def apply_mode_settings(self, request):
        self.seen.append(request)
        return super().apply_mode_settings(request)


class Worker:
    def __init__(self, handler: Recording, runner: Runner, app: Litestar, client: AsyncTestClient) -> None:
        self.handler = handler
        self.runner = runner
        self.app = app
        self.client = client
        facts = RelayFacts(request_id="r-1", model="echo", public_model="asked/for:this", cache_salt="salt")
        self.headers = facts.to_headers()

    async def post(self, path: str, **body) -> Any:
        return await self.client.post(path, json={"model": "x", **body}, headers=self.headers)

    async def events(self, path: str, **body) -> list[dict]:
        """The JSON of each event of a stream that ended well."""
        answer = await self.post(path, stream=True, **body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = [frame for frame in answer.text.split("\n\n") if frame.startswith("data: ")]
        assert frames.pop() == "data: [DONE]"
        return [json.loads(frame[len("data: ") :]) for frame in frames]


@pytest.fixture
def serve() -> Callable[[Callable[[Worker], Awaitable[None]]], None]:
    """``serve(scenario)`` runs ``scenario(worker)`` to its end, and sees that nothing runs afterwards."""

    async def play(scenario) -> None:
        handler = Recording(ModelSpec(id="echo", path="", kind="echo", context_length=1000))
        handler.load_model(lambda stage, done=0, total=0: None)
        runner = Runner(handler)
        app = create_worker(runner, model_id="echo", timing=StreamTiming())
        try:
            async with asyncio.timeout(PATIENCE), AsyncTestClient(app) as client:
                await scenario(Worker(handler, runner, app, client))
                while runner.active:
                    await asyncio.sleep(0.01)
        finally:
            await runner.close(0.0)

    return lambda scenario: asyncio.run(play(scenario))
