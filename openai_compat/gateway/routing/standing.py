"""How each target stands: what it works on, how often it failed, whether it is asked at all."""

from __future__ import annotations

import logging
import time
from collections import Counter

from msgspec import Struct

from openai_compat.config import Config
from openai_compat.errors import RateLimited, Unavailable
from openai_compat.gateway.order import Failure, LocalTarget, Target
from openai_compat.gateway.routing.breaker import Circuit, Clock, State

logger = logging.getLogger(__name__)
# What says that a target is not well. 429 is about us, ``refused`` and ``context`` are about the request or our settings.
_VERDICTS = frozenset({"not_begun", "lost", "timeout", "server_error"})


class TargetState(Struct, frozen=True, kw_only=True):
    """How a target stands, for metrics and pages. ``upstream`` is empty for a model of this machine; times are seconds.

    ``failures`` are tries by cause; ``retries`` further ones at the same target for one request, ``fallbacks`` requests that
    went on to another target, ``hedges`` those that came to it beside another.
    """

    upstream: str
    target: str
    state: State
    left_alone_for: float
    aside_for: float
    in_flight: int
    begun: int
    retries: int
    fallbacks: int
    hedges: int
    failures: dict[str, int]


class Standing:
    """What is known of one target. Changed on the event loop only."""

    __slots__ = ("begun", "circuit", "failures", "fallbacks", "hedges", "in_flight", "label", "retries", "upstream")

    def __init__(self, upstream: str, label: str, circuit: Circuit) -> None:
        self.upstream = upstream
        self.label = label
        self.circuit = circuit
        self.in_flight = 0
        self.begun = 0
        self.retries = 0
        self.fallbacks = 0
        self.hedges = 0
        self.failures: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Of its own among all targets, and the same after a restart."""
        return f"{self.upstream}/{self.label}"

    @property
    def free(self) -> bool:
        """Whether it may be asked now."""
        return not self.circuit.left_alone_for() and not self.circuit.aside_for()

    def failed(self, ticket: int, failure: Failure) -> None:
        """A try came to nothing before the first byte."""
        self.failures[failure.cause] += 1
        if failure.retry_after is not None:
            self.circuit.set_aside(failure.retry_after)
        if failure.cause in _VERDICTS and not _is_ours(failure):
            self.broke(ticket)
        else:
            self.circuit.dropped(ticket)

    def broke(self, ticket: int) -> None:
        """It did what a target that is well does not."""
        before = self.circuit.state
        self.circuit.failed(ticket)
        if self.circuit.state == "open" and before != "open":
            logger.warning("%s keeps failing and is left alone for %.1f s", self.label, self.circuit.left_alone_for())

    def state(self) -> TargetState:
        return TargetState(
            upstream=self.upstream,
            target=self.label,
            state=self.circuit.state,
            left_alone_for=self.circuit.left_alone_for(),
            aside_for=self.circuit.aside_for(),
            in_flight=self.in_flight,
            begun=self.begun,
            retries=self.retries,
            fallbacks=self.fallbacks,
            hedges=self.hedges,
            failures=dict(self.failures),
        )


class Standings:
    """All targets that were asked so far. Labels are from closed sets, and so is what is kept here."""

    def __init__(self, config: Config, clock: Clock = time.monotonic) -> None:
        self._upstreams = config.upstreams
        self._clock = clock
        self._known: dict[tuple[str, str], Standing] = {}

    def of(self, target: Target) -> Standing:
        key = ("", target.model_id) if isinstance(target, LocalTarget) else (target.upstream, target.label)
        return self._known.get(key) or self._begin(*key)

    def states(self) -> tuple[TargetState, ...]:
        return tuple(standing.state() for standing in self._known.values())

    def _begin(self, upstream: str, label: str) -> Standing:
        """The pool has a back-off of its own for models of this machine, so these have no breaker."""
        found = self._upstreams.get(upstream)
        circuit = Circuit(found.breaker if found is not None else None, self._clock)
        standing = self._known[upstream, label] = Standing(upstream, label, circuit)
        return standing


def _is_ours(failure: Failure) -> bool:
    """This process could not ask at all: it lacks descriptors, or ends."""
    return failure.cause == "not_begun" and isinstance(failure.error, Unavailable)


def left_alone(public_name: str, seconds: float) -> Failure:
    """What an open breaker answers in a target's place."""
    message = f"The model '{public_name}' failed several times in a row and is not asked again for a moment."
    return Failure("open", Unavailable(message, retry_after=seconds), retry_after=seconds)


def aside(public_name: str, seconds: float) -> Failure:
    """What is answered while all that is left are targets that want to be left in peace."""
    message = f"The model '{public_name}' takes no more requests for now. Please try again later."
    return Failure("rate_limited", RateLimited(message, retry_after=seconds), retry_after=seconds)
