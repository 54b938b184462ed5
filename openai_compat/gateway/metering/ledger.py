"""Opens the account of each request, within the limits of its key, and books what it used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from openai_compat.config import Metering, Price
from openai_compat.gateway.metering import estimate
from openai_compat.gateway.metering.cost import Counts, amount, rates_of
from openai_compat.gateway.metering.counters import HOUR, Counters, Sums, Table
from openai_compat.gateway.metering.limits import Allowance, Arrival, Hold
from openai_compat.gateway.metering.past import Past
from openai_compat.gateway.metering.quota import DAY, Standing, Use
from openai_compat.gateway.metering.standing import Pairs
from openai_compat.gateway.metering.tally import Tally
from openai_compat.gateway.order import Choice, Envelope
from openai_compat.gateway.spool import Body
from openai_compat.grants import Grant

Clock = Callable[[], float]
_FEW = 256
_FREE = Price()
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady() -> float:
    """Seconds, of a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(_STEADY)


class Used(NamedTuple):
    """What one key has used of one model."""

    key: str
    model: str
    tokens: dict[str, int]
    cost: float


class Ledger:
    """Every key's account. Lives on the event loop; nothing of it waits.

    Args:
        clock: Unix seconds, for what is shown and kept.
        steady: seconds for the limits, which a clock that is set must neither lift nor prolong.

    Attributes:
        spent: what each key has cost since it was made, as far as it is known here.
    """

    def __init__(self, limits: Metering, *, clock: Clock = time.time, steady: Clock = steady) -> None:
        self.counters = Counters()
        self.spent: dict[str, int] = {}
        self._clock = clock
        self._steady = steady
        self._past = Past()
        self._allowances: dict[str, Allowance] = {}
        self._many = _FEW
        self.renew(limits)

    def renew(self, limits: Metering) -> None:
        """From now on these are the limits of whoever has none of their own; what was counted stays."""
        self._defaults = limits
        self._limited = limits != Metering()

    def open(
        self,
        grant: Grant,
        *,
        path: str,
        body: bytes | Body,
        envelope: Envelope,
        choices: Iterable[Choice] = (),
        requests: int = 1,
    ) -> Tally:
        """The account of one request, which must be closed.

        Args:
            path: without a query.
            choices: where it may go; the dearest is reserved for.
            requests: how many it counts as; none where it was counted before.

        Raises:
            RateLimited: with what it may use at most, the key would use more than it may.
        """
        self._know(grant)
        guess = _Guess(path, body, stream=envelope.stream is True)
        limited = self._limited or not grant.unlimited
        hold = self._hold(grant, path, body, envelope, choices, requests) if limited else None
        return Tally(self, grant.key_id, guess, hold)

    def arrive(self, grant: Grant) -> Arrival:
        """A place for a request whose body is still to come, which must be left before ``open``.

        Raises:
            RateLimited: as many requests of the key run and arrive as may.
        """
        if not self._limited and grant.unlimited:
            return Arrival()
        return self.allowance(grant).arrive(self._steady())

    def account(self, key_id: str, price: Price = _FREE) -> Tally:
        """The account of work that was admitted before, and waited: it counts for every limit, but only the budget can still
        refuse it.

        Raises:
            RateLimited: the budget has no room for the ``price`` of a request.
        """
        return Tally(self, key_id, _Nothing(), self._charge(key_id, rates_of(price).request))

    def allowance(self, grant: Grant) -> Allowance:
        found = self._allowances.get(grant.key_id)
        if found is None:
            self._tidy()
            found = self._allowances[grant.key_id] = Allowance(grant, self._defaults, self.spent, self._past.of(grant.key_id))
        elif not found.is_for(grant, self._defaults):
            found.adopt(grant, self._defaults)
        return found

    def charge(self, key_id: str, *, tokens: int, cost: int) -> None:
        """What was used without a reservation."""
        use, allowance = Use(self._steady(), tokens, cost), self._allowances.get(key_id)
        if allowance is None:
            self._past.add(key_id, use)
        else:
            allowance.charge(use)

    def recall(self, table: Table) -> None:
        """Count what earlier servers did; ``table`` is in the order of its hours, of which each is taken for its end.

        What comes from more than a day ahead was written while the clock was wrong, and counts no more.
        """
        now, here = self._clock(), self._steady()
        for place, sums in table.items():
            when = (place.hour + 1) * HOUR - 1
            if when <= now + DAY:
                self._past.add(place.key_id, Use(here - max(0.0, now - when), sums.tokens, sums.cost, True))

    def standing(self, grant: Grant) -> tuple[Standing, ...]:
        """How the key stands with each of its limits."""
        if not self._limited and grant.unlimited:
            return ()
        self._know(grant)
        return tuple(self.allowance(grant).standing(self._steady()))

    def used(self) -> Iterator[Used]:
        """Since the start, for metrics."""
        for place, sums in self.counters.since_start.items():
            tokens = {name: getattr(sums, name) for name in ("prompt", "cached", "completion", "estimated")}
            yield Used(key=place.key_id, model=place.label, tokens=tokens, cost=amount(sums.cost))

    def booked(self, tally: Tally, label: str, sums: Sums) -> None:
        self.counters.book(tally.key_id, label, self._clock(), sums)
        if sums.cost:
            self.spent[tally.key_id] = self.spent.get(tally.key_id, 0) + sums.cost

    def settled(self, tally: Tally) -> None:
        hold, tally.hold = tally.hold, None
        if hold is not None:
            hold.settle(self._steady(), tokens=tally.used_tokens, cost=tally.used_cost)

    def _know(self, grant: Grant) -> None:
        """What a key had cost when it was made, which is more than nothing where it goes on for another one."""
        if grant.spent and grant.key_id not in self.spent:
            self.spent[grant.key_id] = grant.spent

    def _hold(
        self, grant: Grant, path: str, body: bytes | Body, envelope: Envelope, choices: Iterable[Choice], requests: int
    ) -> Hold:
        prompt = _prompt(path, body)
        most = estimate.most_completion_tokens(path, envelope)
        cost = 0
        for choice in choices:
            rate = rates_of(choice.target.price)
            cost = max(cost, rate.request + max(rate.prompt, rate.cached) * prompt + rate.completion * most)
        return self.allowance(grant).reserve(self._steady(), tokens=prompt + most, cost=cost, requests=requests)

    def _charge(self, key_id: str, cost: int) -> _Charge:
        allowance = self._allowances.get(key_id)
        if allowance is not None:
            allowance.set_aside(self._steady(), cost)
        return _Charge(self, key_id, allowance, cost)

    def _tidy(self) -> None:
        """Drop what keys have that are gone, or rest, each time that there are twice as many."""
        if len(self._allowances) > self._many:
            now = self._steady()
            self._allowances = {key: found for key, found in self._allowances.items() if not found.idle(now)}
            self._many = max(_FEW, 2 * len(self._allowances))


class _Charge:
    """In the place of a reservation, where nothing but a part of the budget is reserved."""

    headers: Pairs = ()

    def __init__(self, ledger: Ledger, key_id: str, allowance: Allowance | None, cost: int) -> None:
        self._ledger = ledger
        self._key_id = key_id
        self._allowance = allowance
        self._cost = cost

    def leave(self) -> None:
        """It has no place among the requests that run."""

    def settle(self, now: float, *, tokens: int, cost: int) -> None:
        if self._allowance is not None:
            self._allowance.give_back(self._cost)
        self._ledger.charge(self._key_id, tokens=tokens, cost=cost)


def _prompt(path: str, body: bytes | Body) -> int:
    return estimate.prompt_tokens(path, body) if isinstance(body, bytes) else 0


class _Guess:
    """Of one request. Most are never made, as most targets count."""

    __slots__ = ("_body", "_path", "_prompt", "_stream")

    def __init__(self, path: str, body: bytes | Body, *, stream: bool) -> None:
        self._path = path
        self._body: bytes | Body | None = body
        self._stream = stream
        self._prompt = 0

    def __call__(self, size: int) -> Counts:
        prompt = self._prompt if self._body is None else _prompt(self._path, self._body)
        return Counts(prompt, estimate.completion_tokens(self._path, size, stream=self._stream))

    def forget(self) -> None:
        if self._body is not None:
            self._prompt = _prompt(self._path, self._body)
            self._body = None


class _Nothing:
    """Where there is nothing to guess."""

    def __call__(self, size: int) -> Counts:
        return Counts()

    def forget(self) -> None:
        """It knows nothing."""
