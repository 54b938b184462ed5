"""A worker's routes decode what they are sent, and the process that does it ends with the worker's app."""

from __future__ import annotations

import asyncio

import psutil
from litestar.testing import AsyncTestClient
from msgspec import structs

from handlers.echo import EchoHandler
from handlers.types import ModelSpec
from openai_compat.app import create_worker
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import RelayFacts
from openai_compat.worker.runner import Runner


def test_a_recording_is_decoded_and_nothing_is_left_behind(make) -> None:
    async def scenario() -> None:
        handler = EchoHandler(ModelSpec(id="echo", path="", kind="echo"))
        handler.load_model(lambda stage, done=0, total=0: None)
        handler.spec = structs.replace(handler.spec, options={"max_audio_seconds": 2})
        runner = Runner(handler)
        before = set(psutil.Process().children())
        headers = RelayFacts(request_id="r", model="echo", public_model="echo").to_headers()
        async with AsyncTestClient(create_worker(runner, model_id="echo", timing=StreamTiming())) as client:
            for seconds, status in ((1.0, 200), (3.0, 400)):
                files = {"file": ("a.ogg", make("ogg opus", seconds))}
                url = "/v1/audio/transcriptions"
                answer = await client.post(url, data={"model": "echo"}, files=files, headers=headers)
                assert answer.status_code == status, answer.text
            assert answer.json()["error"]["param"] == "file"
            assert len(set(psutil.Process().children()) - before) == 1
        assert not set(psutil.Process().children()) - before
        await runner.close(0)

    asyncio.run(scenario())
