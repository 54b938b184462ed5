"""Asking a second target beside one that takes its time: the first to begin wins, the other is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from openai_compat.gateway.order import Failure, Tally
from openai_compat.gateway.replica import Answer
from openai_compat.gateway.routing.attempts import Attempts, Candidate
from openai_compat.gateway.routing.draft import Draft

Begin = Callable[[Candidate, Tally], AbstractAsyncContextManager[Answer]]
"""A try at a target, with an account of its own."""


class Contestant:
    """One try in a task of its own, which enters it and leaves it: a time limit in there belongs to one task."""

    def __init__(self, candidate: Candidate, trial: AbstractAsyncContextManager[Answer], account: Draft) -> None:
        loop = asyncio.get_running_loop()
        self.candidate = candidate
        self.account = account
        self.began: asyncio.Future[Answer] = loop.create_future()
        self._leaving: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._hold(trial))

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, asyncio.CancelledError):
            await self.dismiss()
        elif error is None:
            self._leaving.set_result(None)
            await self._task
        else:
            self._leaving.set_exception(error)
            await self._left_with(error)

    def let_go(self) -> None:
        """Nobody wants it any more. Told once only: it may be leaving."""
        if not self._task.cancelling():
            self._task.cancel()

    async def dismiss(self) -> None:
        """Returns when nothing is left of it."""
        self.let_go()
        await asyncio.wait([self._task])
        for outcome in (self.began, self._task):
            if outcome.done() and not outcome.cancelled():
                outcome.exception()  # looked at, so that asyncio does not report it as lost

    async def _left_with(self, error: BaseException) -> None:
        """What the try makes of ``error`` is raised, unless it is the error itself, which is on its way already."""
        try:
            await self._task
        except BaseException as raised:
            if raised is not error:
                raise

    async def _hold(self, trial: AbstractAsyncContextManager[Answer]) -> None:
        try:
            async with trial as answer:
                self.began.set_result(answer)
                await self._leaving
        except asyncio.CancelledError:
            self.began.cancel()
            raise
        except BaseException as error:
            if self.began.done():
                raise
            self.began.set_exception(error)


class Race:
    """The tries of one request that is hedged: two at the same time at most."""

    def __init__(self, attempts: Attempts, begin: Begin, tally: Tally, after: float) -> None:
        self._attempts = attempts
        self._tally = tally
        self._begin = begin
        self._after = after
        self._running: list[Contestant] = []
        self._hedges = True

    async def run(self) -> Contestant:
        """The winner, which is to be left. Raises the error of the attempts when all have failed."""
        winner = None
        try:
            while winner is None:
                if not self._running:
                    await self._start()
                winner = self._settle(await self._watch())
            winner.account.win()
            await _let_go([other for other in self._running if other is not winner])
        except BaseException:
            if winner is None and self._running:
                self._running[-1].account.win()  # what a client who left is charged for
            await _let_go(self._running)
            raise
        return winner

    async def _start(self) -> None:
        step = self._attempts.next()
        if step is None:
            raise self._attempts.error()
        if step.wait:
            await asyncio.sleep(step.wait)
        self._enter(step.candidate)

    async def _watch(self) -> bool:
        """Wait until something happens; False where nothing did for so long that another one should be asked."""
        patience = self._after if self._hedges and len(self._running) == 1 else None
        began = [contestant.began for contestant in self._running]
        done, _ = await asyncio.wait(began, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self._hedge()
        return bool(done)

    def _hedge(self) -> None:
        other = self._attempts.other()
        if other is None:
            self._hedges = False
            return
        other.standing.hedges += 1
        self._enter(other)

    def _settle(self, happened: bool) -> Contestant | None:
        """The one that has begun, if any; those that failed are out. Raises what is no failure of a target."""
        for contestant in tuple(self._running) if happened else ():
            if not contestant.began.done():
                continue
            error = contestant.began.exception()
            if error is None:
                return contestant
            self._running.remove(contestant)
            contestant.account.fail()
            if not isinstance(error, Failure):
                raise error
            self._attempts.failed(contestant.candidate, error)
        return None

    def _enter(self, candidate: Candidate) -> None:
        account = Draft(self._tally)
        self._running.append(Contestant(candidate, self._begin(candidate, account), account))


async def _let_go(contestants: Sequence[Contestant]) -> None:
    """All are told before any is waited for, since whoever waits may be called off."""
    for contestant in contestants:
        contestant.account.lose()
        contestant.let_go()
    for contestant in contestants:
        await contestant.dismiss()
