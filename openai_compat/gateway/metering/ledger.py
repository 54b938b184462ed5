"""Opens the account of each request, within the limits of its key, and books what it used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from openai_compat.config import Metering
from openai_compat.gateway.metering import estimate
from openai_compat.gateway.metering.cost import Counts, amount, rates_of
from openai_compat.gateway.metering.counters import HOUR, Counters, Sums, Table
from openai_compat.gateway.metering.limits import Allowance, Hold
from openai_compat.gateway.metering.tally import Tally
from openai_compat.gateway.order import Choice, Envelope
from openai_compat.gateway.spool import Body

Clock = Callable[[], float]


class Used(NamedTuple):
    """What one key has used of one model."""

    key: str
    model: str
    tokens: dict[str, int]
    cost: float


class Ledger:
    """Every key's account. Lives on the event loop; nothing of it waits.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, limits: Metering, *, clock: Clock = time.time) -> None:
        self.counters = Counters()
        self._limits = limits
        self._limited = any(
            value is not None for value in (limits.tokens_per_minute, limits.tokens_per_day, limits.cost_per_day)
        )
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}

    @property
    def limited(self) -> bool:
        """Whether there is anything that a key may not use more of."""
        return self._limited

    def open(self, key_id: str, *, path: str, body: bytes | Body, envelope: Envelope, choices: Iterable[Choice] = ()) -> Tally:
        """The account of one request, which must be closed.

        Args:
            path: without a query.
            choices: where it may go; the dearest is reserved for.

        Raises:
            RateLimited: with what it may use at most, the key would use more than it may.
        """
        guess = partial(_guess, path, body, envelope.stream is True)
        hold = self._hold(key_id, path, body, envelope, choices) if self._limited else None
        return Tally(self, key_id, guess, hold)

    def account(self, key_id: str) -> Tally:
        """The account of work that was admitted before: not refused, without a reservation, and counted against the limits."""
        return Tally(self, key_id, lambda size: Counts())

    def allowance(self, key_id: str) -> Allowance:
        found = self._allowances.get(key_id)
        if found is None:
            found = self._allowances[key_id] = Allowance(self._limits)
        return found

    def recall(self, table: Table) -> None:
        """Count what earlier servers did; ``table`` is in the order of its hours, of which each is taken for its end."""
        now = self._clock()
        for place, sums in table.items():
            when = min(now, (place.hour + 1) * HOUR - 1)
            self.allowance(place.key_id).recall(when, tokens=sums.tokens, cost=sums.cost)

    def used(self) -> Iterator[Used]:
        """Since the start, for metrics."""
        for place, sums in self.counters.since_start.items():
            tokens = {name: getattr(sums, name) for name in ("prompt", "cached", "completion", "estimated")}
            yield Used(key=place.key_id, model=place.label, tokens=tokens, cost=amount(sums.cost))

    def booked(self, tally: Tally, label: str, sums: Sums) -> None:
        self.counters.book(tally.key_id, label, self._clock(), sums)

    def settled(self, tally: Tally) -> None:
        if isinstance(tally.hold, Hold):
            self.allowance(tally.key_id).settle(tally.hold, self._clock(), tokens=tally.used_tokens, cost=tally.used_cost)
            tally.hold = None
        elif self._limited:
            self.allowance(tally.key_id).charge(self._clock(), tokens=tally.used_tokens, cost=tally.used_cost)

    def _hold(self, key_id: str, path: str, body: bytes | Body, envelope: Envelope, choices: Iterable[Choice]) -> Hold:
        prompt = _prompt(path, body)
        most = estimate.most_completion_tokens(path, envelope)
        cost = 0
        for choice in choices:
            rate = rates_of(choice.target.price)
            cost = max(cost, rate.request + max(rate.prompt, rate.cached) * prompt + rate.completion * most)
        return self.allowance(key_id).reserve(self._clock(), tokens=prompt + most, cost=cost)


def _prompt(path: str, body: bytes | Body) -> int:
    return estimate.prompt_tokens(path, body) if isinstance(body, bytes) else 0


def _guess(path: str, body: bytes | Body, stream: bool, size: int) -> Counts:
    return Counts(_prompt(path, body), estimate.completion_tokens(path, size, stream=stream))
