"""Turns: a few jobs at once on each model, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from openai_compat.config import Jobs
from openai_compat.errors import RateLimited, ShuttingDown
from openai_compat.gateway.jobs.queue import JobQueue


class Stage:
    """Jobs that note when they begin, and end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def work(self, name: str) -> Callable[[], Awaitable[None]]:
        self.gates[name] = asyncio.Event()

        async def run() -> None:
            self.begun.append(name)
            await self.gates[name].wait()
            self.ended.append(name)

        return run


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_each_model_takes_its_own_turns(in_time) -> None:
    async def scenario() -> None:
        queue, stage = JobQueue(Jobs(per_model=2)), Stage()
        for name in ("a1", "a2", "a3", "b1", "a4"):
            queue.put(name, name[0], stage.work(name))
        await settle()
        assert stage.begun == ["a1", "a2", "b1"]
        stage.gates["a2"].set()
        await settle()
        assert stage.begun[3:] == ["a3"]
        await queue.cancel("a1")
        await settle()
        assert stage.begun[4:] == ["a4"]
        await queue.close(0)

    in_time(scenario())


def test_only_those_that_wait_count_against_the_limit(in_time) -> None:
    async def scenario() -> None:
        queue, stage = JobQueue(Jobs(max_waiting=1)), Stage()
        for name in ("one", "two"):
            queue.admit()
            queue.put(name, "m", stage.work(name))
            await settle()
        with pytest.raises(RateLimited) as caught:
            queue.admit()
        assert caught.value.retry_after
        await queue.cancel("two")
        queue.admit()
        await queue.close(0)
        with pytest.raises(ShuttingDown):
            queue.admit()

    in_time(scenario())


def test_an_end_begins_nothing_and_waits_for_what_runs(in_time) -> None:
    async def scenario() -> None:
        queue, stage = JobQueue(Jobs()), Stage()
        for name in ("running", "waiting"):
            queue.put(name, "m", stage.work(name))
        await settle()
        asyncio.get_running_loop().call_later(0.05, stage.gates["running"].set)
        await queue.close(5.0)
        assert (stage.begun, stage.ended) == (["running"], ["running"])

    in_time(scenario())


def test_what_does_not_end_in_time_is_cancelled(in_time) -> None:
    async def scenario() -> None:
        queue, stage = JobQueue(Jobs()), Stage()
        queue.put("stuck", "m", stage.work("stuck"))
        await settle()
        await queue.close(0.01)
        assert (stage.begun, stage.ended) == (["stuck"], [])

    in_time(scenario())
