"""What is tried for one request, in which order and when, and what the client reads when nothing came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from tenacity import RetryCallState, Retrying, wait_random_exponential

from openai_compat.errors import APIError, DeadlineExceeded
from openai_compat.gateway.order import Cause, Failure, LocalTarget, Order, Target
from openai_compat.gateway.routing.breaker import Clock
from openai_compat.gateway.routing.standing import Standing, aside, left_alone

logger = logging.getLogger(__name__)
Pause = Callable[[int], float]
# Seconds that a request is held between its tries, all together; who would wait longer is told so, and can do it himself.
LONGEST_WAIT = 10.0
# After these the same target may be asked again. A time-out has cost enough already; what is refused stays refused.
_AGAIN = frozenset({"rate_limited", "server_error", "not_begun", "lost"})
# The first of these that happened is what the client reads.
_TELLING: tuple[Cause, ...] = ("rate_limited", "server_error", "timeout", "lost", "not_begun", "open", "refused")
_FIRST_PAUSE = 0.25
_LAST_PAUSE = 4.0
_widening = wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LAST_PAUSE)


def back_off(tries: int) -> float:
    """Seconds until a target may be asked again after so many tries: random, up to a bound that doubles."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = tries
    return _widening(state)


class Candidate:
    """A target of this request, and its share. ``ready_at`` is when it may be asked; ``retries`` how often again."""

    __slots__ = ("context_length", "ready_at", "retries", "standing", "target", "tries", "weight")

    def __init__(
        self, target: Target, standing: Standing, *, retries: int, weight: float = 1.0, context_length: int | None = None
    ) -> None:
        self.target = target
        self.standing = standing
        self.retries = retries
        self.weight = weight
        self.context_length = context_length
        self.tries = 0
        self.ready_at = 0.0

    @property
    def name(self) -> str:
        return self.standing.name

    @property
    def load(self) -> int:
        return self.standing.in_flight

    @property
    def free(self) -> bool:
        return self.standing.free


class Step(Struct, frozen=True):
    """``candidate`` is to be asked in ``wait`` seconds."""

    candidate: Candidate
    wait: float


class Attempts:
    """The tries of one order, ``limit`` at most. ``larger`` takes what the candidates find too long.

    Each candidate is asked once, at once, in the order given; then again those that may recover, after a pause.
    """

    def __init__(
        self,
        order: Order,
        candidates: Sequence[Candidate],
        *,
        limit: int,
        larger: Candidate | None = None,
        clock: Clock = time.monotonic,
        pause: Pause = back_off,
    ) -> None:
        self._order = order
        self._left = list(candidates)
        self._limit = limit
        self._larger = larger
        self._clock = clock
        self._pause = pause
        self._tries = 0
        self._held = 0.0
        self._failures: list[Failure] = []
        self._takers: list[Candidate] | None = None  # of a prompt that was too long for somebody
        self._last: Candidate | None = None

    def hold_back(self) -> None:
        """Note of each candidate that is left alone, or wants to be, so that it is not asked before its time."""
        for candidate in tuple(self._left):
            circuit = candidate.standing.circuit
            if seconds := circuit.left_alone_for():
                self._left.remove(candidate)
                self._failures.append(left_alone(self._order.public_name, seconds))
            elif seconds := circuit.aside_for():
                candidate.ready_at = self._clock() + seconds + self._pause(1)
                self._failures.append(aside(self._order.public_name, seconds))

    def next(self) -> Step | None:
        """Who is asked now, or after a wait; None when it is over. It is not offered again before it has ``failed``."""
        candidate = self._soonest()
        if candidate is None:
            return None
        wait = max(0.0, candidate.ready_at - self._clock())
        if self._held + wait > LONGEST_WAIT or candidate.ready_at >= self._order.deadline:
            return None
        self._held += wait
        self._note(candidate)
        return self._take(candidate, wait)

    def other(self) -> Candidate | None:
        """Who may be asked beside the one that is asked: a target that was not asked yet, without a wait."""
        candidate = self._soonest()
        if candidate is None or candidate.tries or candidate.ready_at > self._clock():
            return None
        return self._take(candidate, 0.0).candidate

    def began_with(self, candidate: Candidate, failure: Failure) -> None:
        """``candidate`` was asked already, before there was an account of it."""
        self._take(candidate, 0.0)
        self.failed(candidate, failure)

    def failed(self, candidate: Candidate, failure: Failure) -> None:
        self._last = candidate
        candidate.tries += 1
        if failure.cause == "context":
            self._outgrown(candidate)
        elif self._takers is not None and candidate not in self._takers:
            return  # it was asked beside the one that found the prompt too long, and is no larger
        self._failures.append(failure)
        if self._may_recover(candidate, failure):
            asked = failure.retry_after or 0.0
            local = isinstance(candidate.target, LocalTarget)
            candidate.ready_at = self._clock() + asked + (0.0 if local else self._pause(candidate.tries))
            self._left.append(candidate)

    def error(self) -> APIError:
        """Of all that happened, what helps the client most.

        Too long a prompt, where nobody was left who might take it; else what will be over first by its own account, 429 before
        503; else a time-out, a broken connection, none at all; last what an operator has to mend.
        """
        if not self._failures:
            return DeadlineExceeded("There was no time left to ask a model.", retry=False)
        last = self._failures[-1]
        if last.cause == "context":
            return last.error
        return min((failure for failure in self._failures if failure.cause != "context"), key=_telling).error

    def _soonest(self) -> Candidate | None:
        """Of those that may be asked now the first, else whose time comes first. Who was asked already stands at the end."""
        now = self._clock()
        if self._tries >= self._limit or not self._left or now >= self._order.deadline:
            return None
        ready = next((candidate for candidate in self._left if candidate.ready_at <= now), None)
        return ready or min(self._left, key=lambda candidate: candidate.ready_at)

    def _take(self, candidate: Candidate, wait: float) -> Step:
        self._left.remove(candidate)
        self._tries += 1
        return Step(candidate, wait)

    def _note(self, candidate: Candidate) -> None:
        """Count and log that it goes on after a failure. Labels only: names of targets are not the client's to choose."""
        last = self._last
        if last is None:
            return
        if last is candidate:
            candidate.standing.retries += 1
            return
        last.standing.fallbacks += 1
        cause, names = self._failures[-1].cause, (last.standing.label, candidate.standing.label)
        logger.info("%s came to nothing (%s), %s is asked [%s]", names[0], cause, names[1], self._order.request_id)

    def _may_recover(self, candidate: Candidate, failure: Failure) -> bool:
        if candidate.tries > candidate.retries or failure.error.retry is False:
            return False
        # A worker that died of a request would die of it again, and a pool has let it wait as long as it may.
        return failure.cause == "not_begun" if isinstance(candidate.target, LocalTarget) else failure.cause in _AGAIN

    def _outgrown(self, candidate: Candidate) -> None:
        """From now on only who takes longer prompts is asked. What failed before has no say in the error any more."""
        self._failures.clear()
        larger, self._larger = self._larger, None
        known = candidate.context_length
        if larger is not None:
            self._left = [larger] if larger.target != candidate.target else []
        else:
            self._left = [other for other in self._left if known is not None and (other.context_length or 0) > known]
        self._takers = list(self._left)


def _telling(failure: Failure) -> tuple[int, float]:
    wait = failure.retry_after if failure.retry_after is not None else failure.error.retry_after
    return _TELLING.index(failure.cause), wait if wait is not None else float("inf")
