from __future__ import annotations

import asyncio

import pytest

from handlers.types import Picture, PictureDelta, PictureResult, TextDelta, TextRequest
from openai_compat.errors import Cancelled
from openai_compat.worker import job as module
from openai_compat.worker.job import Bridge, Job


def partial(number: int) -> PictureDelta:
    return PictureDelta(index=0, picture=Picture(width=10, height=1, pixels=bytes(30)), partial=number)


def test_partial_pictures_that_nobody_takes_are_left_out_and_texts_are_not(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD", 70)

    async def scenario() -> None:
        job = Job("generate_image", TextRequest(prompts=("x",)), "r", Bridge(asyncio.get_running_loop()), lambda job: None)
        for number in range(4):
            job.emit(partial(number))
        with pytest.raises(Cancelled, match="too slowly"):
            job.emit(TextDelta(index=0, text="x" * 70))
        batches = job.batches()
        assert [delta.partial for delta in await anext(batches)] == [0, 1]
        job.emit(partial(4))
        assert [delta.partial for delta in await anext(batches)] == [4]
        job.settle(PictureResult(pictures=()))
        assert [batch async for batch in batches] == []

    asyncio.run(scenario())


def test_a_partial_picture_of_any_size_is_shown_to_who_is_waiting(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD", 10)

    async def scenario() -> None:
        job = Job("generate_image", TextRequest(prompts=("x",)), "r", Bridge(asyncio.get_running_loop()), lambda job: None)
        batches = job.batches()
        for number in range(3):
            job.emit(partial(number))
            assert [delta.partial for delta in await anext(batches)] == [number]
        job.cancel()

    asyncio.run(scenario())
