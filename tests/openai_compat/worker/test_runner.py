import asyncio
import logging
import threading

import pytest

from handlers.types import AudioTaskRequest, ImageTaskRequest, Picture, Sound
from openai_compat.errors import (
    APIError,
    Cancelled,
    DeadlineExceeded,
    InsufficientMemory,
    InvalidRequest,
    RateLimited,
    ShuttingDown,
)
from openai_compat.worker.foreign import foreign


async def text_of(job) -> str:
    return "".join([delta.text async for batch in job.batches() for delta in batch])


def test_a_whole_answer_is_the_result_of_the_verb(bench, run):
    async def scenario():
        async with bench() as b:
            result = await b.submit("one two").result()
            assert result.choices[0].text == "one two"
            assert b.handler.threads == {"inference"}
            assert b.done == ["one two"]

    run(scenario())


def test_a_stream_has_every_delta_in_order_and_then_the_result(bench, run):
    async def scenario():
        async with bench() as b:
            prompt = " ".join(map(str, range(500)))
            job = b.submit(prompt)
            assert await text_of(job) == prompt + " "
            assert (await job.result()).usage.completion_tokens == 500

    run(scenario())


def test_deltas_that_came_before_the_first_look_are_one_batch_and_one_wake_up(bench, run, until):
    async def scenario():
        async with bench() as b:
            wakes = []
            loop = asyncio.get_running_loop()
            original = loop.call_soon_threadsafe
            loop.call_soon_threadsafe = lambda call, *args: (wakes.append(call), original(call, *args))[1]
            job = b.submit("a b c d e f hold")
            while not b.handler.entered.is_set() or len(job._unread) < 6:  # the loop does not run meanwhile
                pass
            assert len(wakes) == 1
            stream = job.batches()
            assert len(await anext(stream)) == 6
            del loop.call_soon_threadsafe
            await stream.aclose()

    run(scenario())


def test_jobs_run_one_at_a_time_and_in_order(bench, run):
    async def scenario():
        async with bench() as b:
            jobs = [b.submit(f"job-{number}") for number in range(20)]
            await asyncio.gather(*(job.result() for job in jobs))
            assert b.handler.seen == [f"job-{number}" for number in range(20)]

    run(scenario())


def test_32_streams_at_once_are_complete_and_never_mixed(bench, run):
    async def scenario():
        async with bench() as b:
            prompts = [" ".join(f"{number}.{step}" for step in range(50)) for number in range(32)]
            texts = await asyncio.gather(*(text_of(b.submit(prompt)) for prompt in prompts))
            assert [text.strip() for text in texts] == prompts
            assert sorted(b.done) == sorted(prompts)
            assert b.runner.active == ()

    run(scenario())


def test_closing_the_stream_stops_the_verb_at_its_next_step(bench, run, until):
    async def scenario():
        async with bench() as b:
            stream = b.submit("first hold never").batches()
            assert (await anext(stream))[0].text == "first "
            await stream.aclose()
            await until(lambda: b.done)
            assert (await b.submit("next").result()).choices[0].text == "next"

    run(scenario())


def test_a_stream_dropped_by_an_outer_generator_stops_the_verb_too(bench, run, until):
    async def scenario():
        async with bench() as b:
            job = b.submit("first hold never")

            async def events():
                async for batch in job.batches():
                    yield b"".join(delta.text.encode() for delta in batch)

            outer = events()
            assert await anext(outer) == b"first "
            await outer.aclose()
            await until(lambda: b.done)

    run(scenario())


def test_cancelling_answers_the_waiting_side_at_once_and_frees_the_thread_later(bench, run, until):
    async def scenario():
        async with bench() as b:
            job = b.submit("stuck")
            await until(b.handler.entered.is_set)
            job.cancel()
            with pytest.raises(Cancelled):
                await job.result()
            assert b.done == []
            assert b.runner.active == ("stuck",)
            b.handler.gate.set()
            await until(lambda: b.done == ["stuck"])

    run(scenario())


def test_a_queued_job_that_is_abandoned_never_runs(bench, run, until):
    async def scenario():
        async with bench() as b:
            first = b.submit("hold")
            second = b.submit("second")
            second.cancel()
            assert b.done == ["second"]
            b.handler.gate.set()
            await first.result()
            assert await b.submit("third").result()
            assert b.handler.seen == ["hold", "third"]

    run(scenario())


def test_a_deadline_ends_a_running_and_a_queued_job(bench, run, until):
    async def scenario():
        async with bench() as b:
            running = b.submit("hold", deadline=0.05)
            queued = b.submit("queued", deadline=0.05)
            for job in (running, queued):
                with pytest.raises(DeadlineExceeded):
                    await job.result()
            await until(lambda: sorted(b.done) == ["hold", "queued"])
            assert b.handler.seen == ["hold"]

    run(scenario())


def test_a_deadline_ends_a_stream_with_its_error(bench, run):
    async def scenario():
        async with bench() as b:
            stream = b.submit("first hold", deadline=0.1).batches()
            await anext(stream)
            with pytest.raises(DeadlineExceeded):
                await anext(stream)

    run(scenario())


def test_more_than_the_queue_holds_is_refused_with_a_hint_when_to_return(bench, run, until):
    async def scenario():
        async with bench(max_waiting=2, retry_after=3.0) as b:
            b.submit("hold")
            await until(b.handler.entered.is_set)
            b.submit("one")
            b.submit("two")
            with pytest.raises(RateLimited) as caught:
                b.submit("three")
            assert caught.value.retry_after == 3.0

    run(scenario())


@pytest.mark.parametrize("kind", ["sound", "picture"])
def test_media_that_wait_have_a_limit_together_and_give_their_room_back(bench, run, until, kind):
    def holding(size):
        if kind == "picture":
            return ImageTaskRequest(picture=Picture(width=size, height=1, channels=1, pixels=bytes(size)))
        return AudioTaskRequest(audio=Sound(pcm=bytes(size), rate=16_000), task="transcribe")

    async def scenario():
        async with bench(max_media=1000, retry_after=3.0) as b:
            b.submit("hold")
            await until(b.handler.entered.is_set)

            def submit(size):
                return b.runner.submit("process_audio", holding(size), request_id=str(size), deadline=20.0)

            alone = submit(4000)
            with pytest.raises(RateLimited) as caught:
                submit(2)
            assert caught.value.retry_after == 3.0
            b.submit("a text has nothing to do with it")
            alone.cancel()
            submit(600)
            submit(400)
            with pytest.raises(RateLimited):
                submit(2)

    run(scenario())


def test_an_abandoned_job_gives_its_place_back(bench, run, until):
    async def scenario():
        async with bench(max_waiting=1) as b:
            b.submit("hold")
            await until(b.handler.entered.is_set)
            b.submit("one").cancel()
            b.submit("two")

    run(scenario())


def test_typed_errors_travel_as_they_are(bench, run):
    async def scenario():
        async with bench() as b:
            b.handler.failure = InvalidRequest("too long", param="prompt")
            for prompt in ("refuse", "raise"):
                with pytest.raises(InvalidRequest) as caught:
                    await b.submit(prompt).result()
                assert caught.value is b.handler.failure
            assert b.done == ["refuse", "raise"]

    run(scenario())


@pytest.mark.parametrize("failure", [ValueError("a secret"), SystemExit("a secret"), KeyboardInterrupt("a secret")])
def test_a_foreign_exception_is_logged_and_hidden_and_the_thread_lives_on(bench, run, caplog, failure):
    async def scenario():
        async with bench() as b:
            b.handler.failure = failure
            with pytest.raises(APIError) as caught:
                await b.submit("raise").result()
            assert type(caught.value) is APIError
            assert "secret" not in caught.value.message
            assert (await b.submit("next").result()).choices

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert "a secret" in caplog.text
    assert "Traceback" in caplog.text


def test_running_out_of_memory_is_told_apart_by_the_name_of_the_type():
    class OutOfMemoryError(RuntimeError): ...

    class Derived(OutOfMemoryError): ...

    for error in (OutOfMemoryError(), Derived(), MemoryError()):
        known = foreign(error)
        assert isinstance(known, InsufficientMemory)
        assert known.retry_after
    assert type(foreign(RuntimeError())) is APIError


class AcceleratorError(RuntimeError):
    """As torch calls what a GPU reports."""


@pytest.mark.parametrize(
    "error", [AcceleratorError("an illegal address"), RuntimeError("CUDA error: device-side assert triggered")]
)
def test_whoever_must_know_hears_that_the_gpu_is_lost(bench, run, error):
    async def scenario():
        heard = []
        async with bench(on_exhausted=lambda: heard.append(len(b.done))) as b:
            b.handler.failure = RuntimeError("the shapes of CUDA errors do not match")
            for failure, told in ((b.handler.failure, []), (error, [1]), (error, [1])):
                b.handler.failure = failure
                with pytest.raises(APIError):
                    await b.submit("raise", request_id=str(len(b.done))).result()
                assert heard == told

    run(scenario())


def test_whoever_must_know_hears_once_that_memory_ran_out_and_before_the_client_does(bench, run):
    async def scenario():
        heard = []
        async with bench(on_exhausted=lambda: heard.append(len(b.done))) as b:
            with pytest.raises(APIError):
                await b.submit("raise", request_id="1").result()
            assert heard == []
            b.handler.failure = MemoryError()
            for number in "23":
                with pytest.raises(InsufficientMemory) as caught:
                    await b.submit("raise", request_id=number).result()
                assert caught.value.retry is False
            assert heard == [1]
            assert (await b.submit("next").result()).choices

    run(scenario())


def test_a_reader_that_is_much_too_slow_loses_its_job(bench, run, until):
    async def scenario():
        async with bench() as b:
            job = b.submit("flood")
            await until(lambda: b.done)
            with pytest.raises(Cancelled, match="too slowly"):
                await text_of(job)
            assert (await b.submit("next").result()).choices

    run(scenario())


def test_a_whole_answer_keeps_no_deltas(bench, run):
    async def scenario():
        async with bench() as b:
            job = b.submit("hold flood")
            waiting = asyncio.ensure_future(job.result())
            await asyncio.sleep(0)
            b.handler.gate.set()
            assert (await waiting).choices[0].text == "hold flood"
            assert not job._unread

    run(scenario())


def test_closing_refuses_new_jobs_and_lets_the_others_end(bench, run, until):
    async def scenario():
        async with bench() as b:
            running, queued = b.submit("hold"), b.submit("queued")
            await until(b.handler.entered.is_set)
            closing = asyncio.ensure_future(b.runner.close(10.0))
            await asyncio.sleep(0)
            with pytest.raises(ShuttingDown):
                b.submit("late")
            b.handler.gate.set()
            await closing
            assert (await running.result()).choices
            assert (await queued.result()).choices
            assert not any(thread is b.runner._thread for thread in threading.enumerate())

    run(scenario())


def test_closing_cancels_what_is_not_done_within_the_grace(bench, run, until):
    async def scenario():
        async with bench() as b:
            running, queued = b.submit("first hold"), b.submit("queued")
            await until(b.handler.entered.is_set)
            await b.runner.close(0.05)
            for job in (running, queued):
                with pytest.raises(ShuttingDown):
                    await job.result()
            assert sorted(b.done) == ["first hold", "queued"]
            assert b.handler.seen == ["first hold"]

    run(scenario())


def test_calls_run_on_the_thread_that_runs_the_model(bench, run):
    async def scenario():
        async with bench() as b:
            name = b.runner.call(lambda: threading.current_thread().name)
            assert await asyncio.wrap_future(name) == "inference"
            broken = b.runner.call(lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await asyncio.wrap_future(broken)

    run(scenario())


def test_a_call_that_nobody_wants_any_more_leaves_the_thread_alive(bench, run):
    async def scenario():
        async with bench() as b:
            busy = threading.Event()
            b.runner.call(busy.wait)
            unwanted = b.runner.call(lambda: b.handler.seen.append("unwanted"))
            unwanted.cancel()
            busy.set()
            assert await asyncio.wrap_future(b.runner.call(lambda: "still here")) == "still here"
            assert b.handler.seen == []

    run(scenario())


def test_a_thread_that_gets_nowhere_is_told_from_one_that_is_idle_or_gets_on(bench, run, until):
    async def scenario():
        async with bench() as b:
            await b.submit("one").result()
            await until(lambda: b.runner.stalled == 0.0)
            job = b.submit("hold stuck")
            await until(b.handler.entered.is_set)
            await asyncio.sleep(0.3)
            assert b.runner.stalled < 0.25  # it looks whether it is to stop, so it gets on
            job.cancel()
            b.handler.entered.clear()
            b.submit("stuck")
            await until(b.handler.entered.is_set)
            await until(lambda: b.runner.stalled > 0.3)

    run(scenario())


def test_what_would_wait_too_long_is_refused_before_anything_is_done_for_it(bench, run, until):
    async def scenario():
        async with bench(max_waiting=1, retry_after=3.0) as b:
            b.runner.admit(20.0)
            b.submit("hold")
            b.submit("one")
            with pytest.raises(RateLimited) as caught:
                b.runner.admit(20.0)
            assert caught.value.retry_after == 3.0

    run(scenario())
