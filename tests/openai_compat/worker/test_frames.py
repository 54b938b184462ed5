"""A video's frames are more than may lie unread: the model waits for its encoder, and for nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from handlers.echo import EchoHandler
from handlers.types import FrameDelta, ModelSpec, VideoRequest
from openai_compat.errors import Cancelled
from openai_compat.worker.job import MAX_UNREAD
from openai_compat.worker.runner import Runner

FRAMES = 64
FRAME = 640 * 480 * 3


def play(scenario: Any) -> None:
    async def with_runner() -> None:
        handler = EchoHandler(ModelSpec(id="echo", path="", kind="echo"))
        handler.load_model(lambda *_: None)
        runner = Runner(handler)
        try:
            async with asyncio.timeout(30):
                request = VideoRequest(prompt="sea", frames=FRAMES, width=640, height=480)
                await scenario(runner.submit("generate_video", request, request_id="r", deadline=30), runner)
        finally:
            await runner.close(1.0)

    asyncio.run(with_runner())


def test_every_frame_comes_to_a_reader_that_is_slower_than_the_model() -> None:
    async def scenario(job: Any, _: Runner) -> None:
        sizes = []
        async for batch in job.batches():
            frames = [delta for delta in batch if isinstance(delta, FrameDelta)]
            sizes.append(len(frames) * FRAME)
            await asyncio.sleep(0.02)
        assert sum(sizes) == FRAMES * FRAME > 3 * MAX_UNREAD
        assert max(sizes) <= MAX_UNREAD
        assert (await job.result()).frames == FRAMES

    play(scenario)


def test_a_model_that_waits_for_its_reader_can_be_stopped() -> None:
    async def scenario(job: Any, runner: Runner) -> None:
        await asyncio.sleep(0.3)
        job.cancel()
        with pytest.raises(Cancelled):
            await job.result()
        while runner.active:
            await asyncio.sleep(0.01)

    play(scenario)


def test_a_model_whose_frames_nobody_reads_does_not_wait() -> None:
    async def scenario(job: Any, _: Runner) -> None:
        assert (await job.result()).frames == FRAMES

    play(scenario)
