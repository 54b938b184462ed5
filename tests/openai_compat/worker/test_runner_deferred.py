"""Requests whose results are deferred share the model's thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from handlers.deferred import Deferred, complete
from handlers.types import TextChoice, TextDelta, TextRequest, TextResult, TokenRequest, TokenResult, Usage
from openai_compat.errors import APIError, Cancelled, RateLimited
from openai_compat.worker.runner import Runner


class Word(Deferred):
    """A request that says one word of its prompt a step."""

    def __init__(self, owner, words, ctx) -> None:
        self.owner, self.words, self.ctx = owner, words, ctx
        self.said = 0
        self.error = None

    @property
    def driver(self):
        return self.owner

    def poll(self):
        if self.error is not None:
            raise self.error
        if self.said < len(self.words):
            return None
        choice = TextChoice(index=0, text=" ".join(self.words), finish_reason="stop")
        return TextResult(choices=(choice,), usage=Usage(completion_tokens=self.said))


class Together:
    """A handler that steps all its requests at once, when the test lets it; the word ``bomb`` breaks the step."""

    def __init__(self) -> None:
        self.open: list[Word] = []
        self.gate = threading.Semaphore(0)
        self.steps: list[int] = []
        self.admitted = 0

    def apply_mode_settings(self, request):
        return request

    def validate_inputs(self, request) -> None: ...

    def generate_text(self, request, ctx):
        self.admitted += 1
        words = str(request.prompts[0]).split()
        if words[0] == "blocking":
            return Word(self, [], ctx).poll()
        self.open.append(Word(self, words, ctx))
        return self.open[-1]

    def tokenize_text(self, request, ctx):
        return TokenResult(ids=(1,), text=request.text)

    def step(self) -> None:
        self.gate.acquire(timeout=20)
        going, self.open = self.open, []
        self.steps.append(len(going))
        if any("bomb" in word.words for word in going):
            raise ValueError("a secret")
        for word in going:
            try:
                word.ctx.emit(TextDelta(index=0, text=word.words[word.said]))
            except APIError as error:
                word.error = error
                continue
            word.said += 1
            if word.said < len(word.words):
                self.open.append(word)


@pytest.fixture
def together(run):
    """Run a scenario with a runner whose handler steps when told."""

    def start(scenario, **options):
        async def whole():
            handler, done = Together(), []
            runner = Runner(handler, on_done=done.append, **options)

            def submit(prompt: str):
                request = TextRequest(prompts=(prompt,))
                return runner.submit("generate_text", request, request_id=prompt, deadline=20.0)

            def at_once(*prompts: str):
                """Submitted while the thread is busy elsewhere, so that all are admitted before the next step."""
                busy = threading.Event()
                runner.call(lambda: busy.wait(20))
                jobs = [submit(prompt) for prompt in prompts]
                busy.set()
                return jobs

            def tokens(text: str):
                return runner.submit("tokenize_text", TokenRequest(text=text), request_id=text, deadline=20.0)

            submit.at_once, submit.tokens = at_once, tokens

            try:
                await scenario(handler, submit, done)
            finally:
                handler.gate.release(1000)
                await runner.close(0.0)

        run(whole())

    return start


def test_jobs_that_come_later_join_at_the_next_step(together, until):
    async def scenario(handler, submit, done):
        first = submit("a b c")
        await until(lambda: handler.admitted == 1)
        handler.gate.release()
        await until(lambda: handler.steps == [1])
        second = submit("d e")
        handler.gate.release()
        await until(lambda: handler.admitted == 2)
        handler.gate.release(9)
        assert (await first.result()).choices[0].text == "a b c"
        assert (await second.result()).choices[0].text == "d e"
        assert 2 in handler.steps

    together(scenario)


def test_a_verb_that_blocks_is_served_between_steps(together, until):
    async def scenario(handler, submit, done):
        slow = submit("a b c d")
        await until(lambda: handler.admitted == 1)
        quick = submit("blocking")
        handler.gate.release()
        assert (await quick.result()).usage.completion_tokens == 0
        assert not slow.done
        handler.gate.release(9)
        await slow.result()

    together(scenario)


def test_a_cancelled_job_ends_alone(together, until):
    async def scenario(handler, submit, done):
        gone, stays = submit.at_once("a b c d", "e f g h")
        await until(lambda: handler.admitted == 2)
        handler.gate.release()
        await until(lambda: len(handler.steps) == 1)
        gone.cancel()
        handler.gate.release(9)
        assert (await stays.result()).choices[0].text == "e f g h"
        with pytest.raises(Cancelled):
            await gone.result()
        await until(lambda: sorted(done) == ["a b c d", "e f g h"])

    together(scenario)


def test_a_step_that_breaks_ends_what_ran_and_nothing_that_comes_later(together, until, caplog):
    async def scenario(handler, submit, done):
        broken = submit.at_once("a bomb", "b c")
        await until(lambda: handler.admitted == 2)
        handler.gate.release()
        for job in broken:
            with pytest.raises(APIError) as caught:
                await job.result()
            assert "secret" not in caught.value.message
        handler.gate.release(9)
        assert (await submit("next").result()).choices[0].text == "next"
        assert len(done) == 3

    together(scenario)


def test_no_more_than_the_allowed_number_run_at_once_and_the_queue_is_bounded(together, until):
    async def scenario(handler, submit, done):
        jobs = submit.at_once("a b", "c d", "e f")
        await until(lambda: handler.admitted == 2)
        for prompt in ("g h", "i j", "k l"):
            jobs.append(submit(prompt))
        with pytest.raises(RateLimited):
            submit("m n")
        assert handler.admitted == 2
        handler.gate.release(99)
        await asyncio.gather(*(job.result() for job in jobs))
        assert max(handler.steps) == 2

    together(scenario, max_running=2, max_waiting=4)


def test_complete_steps_until_the_result_is_there():
    handler = Together()
    handler.gate.release(3)

    class Silent:
        def emit(self, delta) -> None: ...

    result = complete(handler.generate_text(TextRequest(prompts=("a b c",)), Silent()))
    assert result.choices[0].text == "a b c"
    assert handler.steps == [1, 1, 1]
    assert complete(result) is result


def test_counting_tokens_waits_for_a_step_at_most_also_where_nothing_else_has_room(together, until):
    async def scenario(handler, submit, done):
        slow, queued = submit.at_once("a b c d", "e f")
        await until(lambda: handler.admitted == 1)
        counts = [submit.tokens(f"count {i}") for i in range(3)]
        gone = submit.tokens("gone")
        gone.cancel()
        for _ in range(3):
            handler.gate.release()
        results = [await job.result() for job in counts]
        assert [result.ids for result in results] == [(1,)] * 3
        assert (slow.done, queued.done, handler.admitted) == (False, False, 1)
        handler.gate.release(9)
        await slow.result()
        await queued.result()
        await until(lambda: len(done) == 6)

    together(scenario, max_running=1)
