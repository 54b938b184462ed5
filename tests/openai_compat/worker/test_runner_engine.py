"""The runner and the text engine together: many requests, some of which leave, over one small model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from handlers.transformer import TransformerHandler
from handlers.types import ModelSpec, Sampling, TextRequest
from openai_compat.errors import Cancelled, InvalidRequest
from openai_compat.worker.runner import Runner


@pytest.fixture(scope="module")
def handler(tiny_llama: Path) -> TransformerHandler:
    made = TransformerHandler(ModelSpec(id="tiny", path=str(tiny_llama), kind="transformer", device="cpu", threads=1))
    made.load_model(lambda *_: None)
    return made


@pytest.fixture
def serve(handler, run):
    """Run a scenario with a runner; afterwards the engine holds nothing."""

    def serve(scenario):
        async def whole():
            runner = Runner(handler)

            def submit(prompt: str, **sampling):
                settings = Sampling(**{"max_tokens": 20, "temperature": 0.0, "ignore_eos": True, **sampling})
                request = TextRequest(prompts=(prompt,), sampling=settings)
                return runner.submit("generate_text", request, request_id=prompt, deadline=20.0)

            try:
                await scenario(submit)
            finally:
                await runner.close(5.0)

        run(whole())
        engine = handler._engine
        assert engine._pool.free == engine._pool.size
        assert not engine._groups

    return serve


async def text_of(job) -> str:
    return "".join([delta.text async for batch in job.batches() for delta in batch])


def test_many_streams_at_once_say_what_each_says_alone(serve):
    prompts = [f"The quick brown fox number {i}" for i in range(40)]

    async def scenario(submit):
        alone = [(await submit(prompt).result()).choices[0].text for prompt in prompts[::8]]
        together = await asyncio.gather(*(text_of(submit(prompt)) for prompt in prompts))
        assert together[::8] == alone

    serve(scenario)


def test_a_stream_that_leaves_and_a_request_that_is_refused_disturb_nobody(serve):
    async def scenario(submit):
        expected = (await submit("stays").result()).choices[0].text
        stays, leaves = submit("stays"), submit("leaves", max_tokens=80)
        refused = submit("refused", stop_token_ids=(10**6,))
        stream = leaves.batches()
        await anext(stream)
        await stream.aclose()
        assert (await stays.result()).choices[0].text == expected
        with pytest.raises(InvalidRequest):
            await refused.result()
        with pytest.raises(Cancelled):
            await leaves.result()

    serve(scenario)


def test_a_long_answer_does_not_hold_up_a_short_one(serve):
    async def scenario(submit):
        long = submit("long", max_tokens=80)
        short = submit("short", max_tokens=2)
        await short.result()
        assert not long.done
        await long.result()

    serve(scenario)
