import asyncio

import pytest

from handlers.types import TextChoice, TextDelta, TextResult, Usage
from openai_compat.errors import RateLimited
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import RelayFacts
from openai_compat.translate.completions import CompletionStream
from routes.answering import stamp, streamed

FACTS = RelayFacts(request_id="r", model="m", public_model="p")


class Pieces:
    """A job that counts how often it was cancelled, and leaves that to the route."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1

    async def batches(self):
        yield [TextDelta(index=0, text="a")]
        yield [TextDelta(index=0, text="")]
        yield [TextDelta(index=0, text="b")]

    async def result(self) -> TextResult:
        return TextResult(choices=(TextChoice(index=0, text="ab", finish_reason="stop"),), usage=Usage())


async def events_of(submit):
    stream = CompletionStream(stamp("cmpl", FACTS), include_usage=False)
    return (await streamed(submit, stream, StreamTiming())).events


def test_each_batch_is_one_write_and_an_empty_one_is_none():
    async def scenario():
        return [data async for data in await events_of(Pieces)]

    first, second, last = asyncio.run(scenario())
    assert b'"text":"a"' in first
    assert b'"text":"b"' in second
    assert last.endswith(b"data: [DONE]\n\n")


def test_a_stream_that_is_closed_half_way_cancels_its_job_at_once():
    async def scenario():
        job = Pieces()
        events = await events_of(lambda: job)
        await anext(events)
        assert job.cancelled == 0
        await events.aclose()
        assert job.cancelled == 1

    asyncio.run(scenario())


def test_a_stream_that_nobody_reads_is_never_submitted():
    async def scenario():
        submitted = []
        events = await events_of(lambda: submitted.append(1) or Pieces())
        await events.aclose()
        assert submitted == []

    asyncio.run(scenario())


def test_a_refusal_to_queue_comes_before_the_first_event():
    def refuse():
        raise RateLimited("full")

    async def scenario():
        with pytest.raises(RateLimited):
            await anext(await events_of(refuse))

    asyncio.run(scenario())


def test_a_stamp_has_the_public_name_a_new_id_and_whole_seconds():
    one, two = stamp("cmpl", FACTS), stamp("cmpl", FACTS)
    assert one.model == "p"
    assert one.id.startswith("cmpl-")
    assert one.id != two.id
    assert isinstance(one.created, int)
