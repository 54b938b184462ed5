"""A handler whose steps the test gates, and a runner around it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from handlers.base import BaseHandler
from handlers.types import ModelSpec, TextChoice, TextDelta, TextRequest, TextResult, Usage
from openai_compat.worker.runner import Runner

PATIENCE = 20.0  # seconds after which a test gives up, never what it expects


class Scripted(BaseHandler):
    """Repeats the words of its prompt. Some words are orders:

    ``hold`` waits, checking as a model does between steps, until the test opens ``gate``; ``stuck`` waits without looking;
    ``raise`` raises ``failure``; ``flood`` emits megabytes.
    """

    def __init__(self, spec: ModelSpec | None = None) -> None:
        super().__init__(spec or ModelSpec(id="scripted", path="", kind="scripted"))
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.seen: list[str] = []
        self.threads: set[str] = set()
        self.failure: BaseException = ValueError("a secret of the library")

    def load_model(self, report) -> None:
        report("loading", 1, 2)

    def apply_mode_settings(self, request):
        return request

    def validate_inputs(self, request) -> None:
        if isinstance(self.failure, Exception) and request.prompts == ("refuse",):
            raise self.failure

    def generate_text(self, request: TextRequest, ctx) -> TextResult:
        prompt = str(request.prompts[0])
        self.seen.append(prompt)
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        words = prompt.split()
        for word in words:
            self._obey(word, ctx)
            ctx.emit(TextDelta(index=0, text=word + " "))
        choice = TextChoice(index=0, text=prompt, finish_reason="stop")
        return TextResult(choices=(choice,), usage=Usage(completion_tokens=len(words)))

    def _obey(self, word: str, ctx) -> None:
        if word == "hold":
            while not self.gate.wait(0.01):
                ctx.check()
        elif word == "stuck":
            self.gate.wait(PATIENCE)
        elif word == "raise":
            raise self.failure
        elif word == "flood":
            for _ in range(64):
                ctx.emit(TextDelta(index=0, text="x" * 2**20))


class Bench:
    """A runner on a scripted handler, and what it reported."""

    def __init__(self, **options) -> None:
        self.handler = Scripted()
        self.done: list[str] = []
        self.runner = Runner(self.handler, on_done=self.done.append, **options)

    def submit(self, prompt: str, *, request_id: str | None = None, deadline: float = PATIENCE):
        request = TextRequest(prompts=(prompt,))
        return self.runner.submit("generate_text", request, request_id=request_id or prompt, deadline=deadline)


@asynccontextmanager
async def _bench(**options) -> AsyncIterator[Bench]:
    bench = Bench(**options)
    try:
        yield bench
    finally:
        bench.handler.gate.set()
        await bench.runner.close(0.0)


@pytest.fixture
def bench():
    return _bench


@pytest.fixture
def until():
    """Wait, in a coroutine, for something that another thread or process does."""

    async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, "it never happened"
            await asyncio.sleep(0.005)

    return until


@pytest.fixture
def run():
    """Run a coroutine to its end, but not for ever."""

    def run(coroutine):
        async def limited():
            async with asyncio.timeout(PATIENCE):
                return await coroutine

        return asyncio.run(limited())

    return run


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted
