"""A worker's routes decode what they are sent, and the process that does it ends with the worker's app."""

from __future__ import annotations

import asyncio
from typing import Any

import psutil
import pytest
from litestar.testing import AsyncTestClient
from msgspec import structs

from handlers.echo import EchoHandler
from handlers.types import ModelSpec
from openai_compat.app import create_worker
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import FetchRules, RelayFacts
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


URL = "http://127.0.0.1/a"
PICTURE = {"type": "image_url", "image_url": {"url": URL}}
ASKED = {
    "chat/completions": ({"messages": [{"role": "user", "content": [PICTURE]}]}, "messages[0].content[0].image_url"),
    "chat/completions?": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": URL}}]}]},
        "messages[0].content[0].input_audio",
    ),
    "embeddings": ({"input": [PICTURE]}, "input[0].image_url"),
    "images/edits": ({"prompt": "p", "images": [{"image_url": URL}]}, "images[0].image_url"),
    "images/edits?": ({"prompt": "p", "image": URL}, "image"),
    "images/variations": ({"image": URL}, "image"),
    "vision/classify": ({"image": URL}, "image"),
    "vision/detect": ({"image": {"image_url": URL}}, "image.image_url"),
    "vision/segment": ({"image": {"image_url": {"url": URL}}}, "image.image_url"),
    "vision/depth": ({"image": URL}, "image"),
    "audio/transcriptions": ({"input_audio": {"data": URL}}, "input_audio.data"),
    "audio/translations": ({"input_audio": {"data": URL}}, "input_audio.data"),
    "audio/classifications": ({"input_audio": {"data": URL}}, "input_audio.data"),
    "videos": ({"prompt": "p", "input_reference": {"image_url": URL}}, "input_reference"),
}


@pytest.mark.parametrize(("path", "asked"), ASKED.items(), ids=ASKED)
def test_every_route_that_takes_files_fetches_by_the_gateways_leave_alone_and_never_from_this_machine(path, asked) -> None:
    body, param = asked

    async def scenario() -> None:
        handler = EchoHandler(ModelSpec(id="echo", path="", kind="echo"))
        handler.load_model(lambda stage, done=0, total=0: None)
        runner = Runner(handler)
        async with AsyncTestClient(create_worker(runner, model_id="echo", timing=StreamTiming())) as client:
            for rules, code in ((None, "unsupported_parameter"), (FetchRules(max_bytes=1000, timeout=5.0), "invalid_")):
                headers = RelayFacts(request_id="r", model="echo", public_model="echo", fetch=rules).to_headers()
                answer = await client.post(f"/v1/{path}", json={"model": "echo", **body}, headers=headers)
                error = answer.json()["error"]
                assert (answer.status_code, error["param"]) == (400, param)
                assert error["code"].startswith(code)
                assert "127" not in error["message"]
        await runner.close(0)

    asyncio.run(scenario())


def test_no_number_of_a_client_says_how_a_film_is_read_since_none_is() -> None:
    """Rates and numbers of frames that clients chose brought other servers down."""
    frames = {"fps": 1e9, "num_frames": 10**9, "max_frames": 10**9}
    film = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA", **frames}}

    async def scenario() -> None:
        handler = EchoHandler(ModelSpec(id="echo", path="", kind="echo"))
        handler.load_model(lambda stage, done=0, total=0: None)
        runner = Runner(handler)
        headers = RelayFacts(request_id="r", model="echo", public_model="echo").to_headers()
        async with AsyncTestClient(create_worker(runner, model_id="echo", timing=StreamTiming())) as client:

            async def ask(content: object, **more: object) -> dict[str, Any]:
                body = {"model": "echo", "messages": [{"role": "user", "content": content}], **more}
                answer: dict[str, Any] = (await client.post("/v1/chat/completions", json=body, headers=headers)).json()
                return answer

            assert (await ask([film]))["error"]["param"] == "messages[0].content[0].type"
            plain, vendors = (
                await ask("hello"),
                await ask("hello", mm_processor_kwargs=frames, media_io_kwargs={"video": frames}),
            )
            assert plain["choices"] == vendors["choices"]
        await runner.close(0)

    asyncio.run(scenario())
