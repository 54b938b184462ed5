"""What one key may use, reserved when a request is admitted and corrected when it is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from openai_compat.config import Metering
from openai_compat.errors import RateLimited
from openai_compat.gateway.metering.bounds import Bounds, bounds_of
from openai_compat.gateway.metering.quota import COST, REQUESTS, TOKENS, Limit, Standing, Use, facts_of, too_many
from openai_compat.gateway.metering.standing import Pairs, Told
from openai_compat.gateway.metering.windows import Step, Window
from openai_compat.grants import Grant


class Arrival:
    """The place of a request whose body is still to come; nobody's where its key has no limit for them."""

    __slots__ = ("_allowance",)

    def __init__(self, allowance: Allowance | None = None) -> None:
        self._allowance = allowance

    def close(self) -> None:
        """It has come, or comes no more. A second time changes nothing."""
        if self._allowance is not None:
            self._allowance.arriving -= 1
            self._allowance = None


class Hold:
    """What is reserved for one request, and its place among those that run at once."""

    __slots__ = ("_allowance", "_runs", "cost", "headers", "steps", "tokens")

    def __init__(self, allowance: Allowance, tokens: int, cost: int, steps: list[tuple[Limit, Step]], headers: Pairs) -> None:
        self.tokens = tokens
        self.cost = cost
        self.steps = steps
        self.headers = headers
        self._allowance = allowance
        self._runs = True

    def leave(self) -> None:
        """Another request may run now. A second time changes nothing."""
        if self._runs:
            self._runs = False
            self._allowance.running -= 1

    def settle(self, now: float, *, tokens: int, cost: int) -> None:
        """Put what was really used in the place of what was reserved; once."""
        self.leave()
        self._allowance.settle(self, now, tokens, cost)


class Allowance:
    """One key's. Its limits may change; what was counted stays.

    Args:
        spent: what each key has cost since it was made.

    Attributes:
        running: requests that run at once.
        arriving: those whose bodies are still to come; they count among them.
    """

    __slots__ = ("_bounds", "_defaults", "_held", "_key_id", "_limits", "_own", "_past", "_spent", "_told", "_unsettled",
                 "_windows", "arriving", "grant", "running")  # fmt: skip

    def __init__(self, grant: Grant, defaults: Metering, spent: dict[str, int], past: Iterable[Use] = ()) -> None:
        self.running = 0
        self.arriving = 0
        self._key_id = grant.key_id
        self._spent = spent
        self._past = tuple(past)
        self._held = 0
        self._unsettled = 0
        self._windows: dict[str, Limit] = {}
        self._limits: tuple[Limit, ...] = ()
        self._told: tuple[tuple[Told, Window], ...] = ()
        self._bounds = Bounds(*[None] * len(Bounds._fields))
        self.adopt(grant, defaults)

    def adopt(self, grant: Grant, defaults: Metering) -> None:
        """From now on these are the limits."""
        self.grant = grant
        self._own = grant.limits
        self._defaults = defaults
        if (bounds := bounds_of(grant.limits, defaults)) != self._bounds:
            self._bounds = bounds
            self._limits = tuple(self._bound(bounds))
            self._told = tuple(self._to_tell())

    def is_for(self, grant: Grant, defaults: Metering) -> bool:
        """Whether these limits are still the key's."""
        return self.grant is grant and self._defaults is defaults

    @property
    def bounded(self) -> bool:
        return self._bounds.exist

    def arrive(self, now: float) -> Arrival:
        """Raises ``RateLimited``: bodies that come slowly would take the places of other keys' requests."""
        if self._bounds.concurrent_requests is None:
            return Arrival()
        self._check_running(now)
        self.arriving += 1
        return Arrival(self)

    def reserve(self, now: float, *, tokens: int, cost: int, requests: int = 1) -> Hold:
        """Raises ``RateLimited`` where it is more than is left; then nothing is reserved and nothing counted."""
        bounds = self._bounds
        if bounds.budget is not None:
            self._check_budget(now, bounds.budget, cost)
        amounts = (requests, tokens, cost)
        for limit in self._limits:
            if limit.window.total(now) + amounts[limit.of] > limit.most:
                raise self._refused(now, limit.refusal(now, amounts[limit.of]))
        self._check_running(now)
        steps = [(limit, limit.window.add(now, amounts[limit.of])) for limit in self._limits]
        self._held += cost
        self._unsettled += 1
        self.running += 1
        return Hold(self, tokens, cost, steps, self.headers(now))

    def settle(self, hold: Hold, now: float, tokens: int, cost: int) -> None:
        self.give_back(hold.cost)
        more = (0, tokens - hold.tokens, cost - hold.cost)
        for limit, step in hold.steps:
            if limit.of:
                limit.window.correct(step, now, more[limit.of])

    def set_aside(self, now: float, cost: int) -> None:
        """A part of the budget for work without a request, until it is given back. Raises ``RateLimited``."""
        if self._bounds.budget is not None:
            self._check_budget(now, self._bounds.budget, cost)
        self._held += cost
        self._unsettled += 1

    def give_back(self, cost: int) -> None:
        self._held -= cost
        self._unsettled -= 1

    def charge(self, use: Use) -> None:
        """What was used without a reservation."""
        for limit in self._limits:
            if limit.of:
                limit.window.add(use.when, use.amount(limit.of))

    def headers(self, now: float) -> Pairs:
        found: Pairs = ()
        for told, window in self._told:
            found += told.headers(window.total(now), window.clears(now))
        return found

    def standing(self, now: float) -> Iterator[Standing]:
        for limit in self._limits:
            yield Standing(limit.name, limit.most, limit.window.total(now))
        if self._bounds.concurrent_requests is not None:
            yield Standing("concurrent_requests", self._bounds.concurrent_requests, self.running + self.arriving)
        if self._bounds.budget is not None:
            yield Standing("budget", self._bounds.budget, self._spent.get(self._key_id, 0) + self._held)

    def idle(self, now: float) -> bool:
        """Whether one that is made anew would say the same."""
        return (
            not self._unsettled and not self.arriving and not any(limit.window.total(now) for limit in self._windows.values())
        )

    def _check_running(self, now: float) -> None:
        most, there = self._bounds.concurrent_requests, self.running + self.arriving
        if most is not None and there >= most:
            raise self._refused(now, too_many(most, there))

    def _bound(self, bounds: Bounds) -> Iterator[Limit]:
        """The windows in force; what is told of a refusal is the one that holds the longest."""
        for name, of, daily in (
            ("cost_per_day", COST, True),
            ("tokens_per_day", TOKENS, True),
            ("tokens_per_minute", TOKENS, False),
            ("requests_per_minute", REQUESTS, False),
        ):
            most: int | None = getattr(bounds, name)
            if most is not None:
                limit = self._windows.get(name) or self._opened(name, of, daily=daily)
                limit.most = most
                yield limit

    def _opened(self, name: str, of: int, *, daily: bool) -> Limit:
        limit = self._windows[name] = Limit(name, of, daily=daily)
        for use in self._past if of else ():
            if daily or not use.by_hour:
                limit.window.add(use.when, use.amount(of))
        return limit

    def _to_tell(self) -> Iterator[tuple[Told, Window]]:
        """Of tokens the minute's, or else the day's."""
        limits = {limit.name: limit for limit in self._limits}
        tokens = limits.get("tokens_per_minute") or limits.get("tokens_per_day")
        for what, limit in (("requests", limits.get("requests_per_minute")), ("tokens", tokens)):
            if limit is not None:
                yield Told(what, limit.most), limit.window

    def _check_budget(self, now: float, budget: int, cost: int) -> None:
        if self._spent.get(self._key_id, 0) + self._held + cost > budget:
            raise self._refused(now, self._over_budget(budget, cost))

    def _refused(self, now: float, error: RateLimited) -> RateLimited:
        error.limits = self.headers(now)
        return error

    def _over_budget(self, budget: int, cost: int) -> RateLimited:
        spent = self._spent.get(self._key_id, 0)
        facts = facts_of("budget", budget, spent + self._held, cost, of_cost=True)
        if spent + cost <= budget:
            return RateLimited(f"{facts} Requests that run may leave some of it.", code="insufficient_quota", retry_after=1)
        return RateLimited(
            f"This key's budget is used up, or too small for the request. {facts}", code="insufficient_quota", retry=False
        )
