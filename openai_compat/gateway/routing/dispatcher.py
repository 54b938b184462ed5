"""The ``Dispatcher``: sends a request to its target, again, or to another one, until an answer begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random
from types import TracebackType

from msgspec.structs import replace

from openai_compat.config import Config, Model, Route
from openai_compat.gateway.order import Destination, Failure, LocalTarget, Order, Sender, Tally, Target
from openai_compat.gateway.replica import Answer
from openai_compat.gateway.routing.attempts import Attempts, Candidate, Pause, back_off
from openai_compat.gateway.routing.breaker import Clock
from openai_compat.gateway.routing.hedge import Contestant, Race
from openai_compat.gateway.routing.policy import arranged, policy_of, ranked
from openai_compat.gateway.routing.standing import Standings, TargetState
from openai_compat.gateway.routing.sticky import sticky_key
from openai_compat.gateway.routing.trial import Trial

_UNKNOWN = Model()
_LOCAL_RETRIES = 1  # after a worker could not be reached: the pool starts another one


class Router:
    """See ``Dispatcher``. ``senders`` gives the way to a target.

    A try that has begun is not ended here when the order's deadline comes: that is the part of whoever made the order.
    """

    def __init__(
        self,
        config: Config,
        senders: Callable[[Target], Sender],
        *,
        random: Random | None = None,
        clock: Clock = time.monotonic,
        pause: Pause = back_off,
    ) -> None:
        random = random or Random()  # noqa: S311 - it spreads load, and guards nothing
        self._config = config
        self._senders = senders
        self._clock = clock
        self._pause = pause
        self._standings = Standings(config, clock)
        self._policies = {name: policy_of(route.policy, random) for name, route in config.routes.items()}

    def open(self, order: Order, destination: Destination) -> Dispatch:
        return Dispatch(self, order, destination)

    def states(self) -> tuple[TargetState, ...]:
        """How each target stands that was asked so far."""
        return self._standings.states()

    def trial(self, order: Order, target: Target) -> Trial:
        return Trial(order, target, self._standings.of(target), self._senders(target))

    def route(self, destination: Destination) -> Route:
        return self._config.routes[destination.route]

    def direct(self, order: Order, destination: Destination, failure: Failure) -> Attempts:
        """What is left to try at the only target after the first ``failure``."""
        only = self._candidate(destination.choices[0].target)
        attempts = Attempts(order, [only], limit=only.retries + 1, clock=self._clock, pause=self._pause)
        attempts.began_with(only, failure)
        return attempts

    def routed(self, order: Order, destination: Destination) -> Attempts:
        route = self.route(destination)
        candidates = [self._candidate(choice.target, choice.weight) for choice in destination.choices]
        key = sticky_key(route.sticky, order)
        first = arranged(self._policies[destination.route], candidates) if key is None else ranked(key, candidates)
        larger = None if destination.larger is None else self._candidate(destination.larger)
        attempts = Attempts(order, first, limit=route.attempts, larger=larger, clock=self._clock, pause=self._pause)
        attempts.hold_back()
        return attempts

    def _candidate(self, target: Target, weight: float = 1.0) -> Candidate:
        standing = self._standings.of(target)
        if isinstance(target, LocalTarget):
            model = self._config.models.get(target.model_id, _UNKNOWN)
            context = model.context_length or model.engine.context_length
            return Candidate(target, standing, retries=_LOCAL_RETRIES, weight=weight, context_length=context)
        retries = self._config.upstreams[target.upstream].retries
        return Candidate(target, standing, retries=retries, weight=weight, context_length=target.model.context_length)


class Dispatch:
    """One request on its way. A class, since a generator as context manager costs a request 10 µs more."""

    __slots__ = ("_destination", "_held", "_order", "_router")

    def __init__(self, router: Router, order: Order, destination: Destination) -> None:
        self._router = router
        self._order = order
        self._destination = destination
        self._held: Trial | Contestant | None = None

    async def __aenter__(self) -> Answer:
        """Raises ``APIError`` when every try has failed."""
        if self._destination.route:
            return await self._routed()
        trial = self._router.trial(self._order, self._destination.choices[0].target)
        try:
            answer = await trial.__aenter__()
        except Failure as failure:
            first = failure
        else:
            self._held = trial
            return answer
        return await self._go_on(self._router.direct(self._order, self._destination, first))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        if held is not None:
            await held.__aexit__(kind, error, trace)

    async def _routed(self) -> Answer:
        attempts = self._router.routed(self._order, self._destination)
        after = self._router.route(self._destination).hedge_after
        return await (self._go_on(attempts) if after is None else self._hedged(attempts, after))

    async def _go_on(self, attempts: Attempts) -> Answer:
        while (step := attempts.next()) is not None:
            if step.wait:
                await asyncio.sleep(step.wait)
            trial = self._trial(step.candidate)
            try:
                answer = await trial.__aenter__()
            except Failure as failure:
                attempts.failed(step.candidate, failure)
            else:
                self._held = trial
                return answer
        raise attempts.error()

    async def _hedged(self, attempts: Attempts, after: float) -> Answer:
        winner = self._held = await Race(attempts, self._trial_with, self._order.tally, after).run()
        return winner.began.result()

    def _trial_with(self, candidate: Candidate, tally: Tally) -> Trial:
        return self._router.trial(replace(self._order, tally=tally), candidate.target)

    def _trial(self, candidate: Candidate) -> Trial:
        return self._router.trial(self._order, candidate.target)
