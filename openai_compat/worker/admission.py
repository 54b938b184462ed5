"""Whether a request may wait for the model, by how long it would have to.

A number of waiting requests says little: sixty-four are gone at once from one model, and keep another busy for an hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from itertools import islice
from typing import Protocol

from openai_compat.errors import RateLimited

_LATEST = 0.2  # how much the last request counts beside all before it
_AT_LEAST = 1.0  # seconds; a shorter queue is none that stands
_ROUNDS = 2.0  # requests' lengths after which it is no burst any more
_SHUT = 1.0  # second for which nothing is let in at most: answers may be done sooner than they usually are
_SHARE = 0.5  # of a request's length that others may wait then; refusing takes time from the model, too


class Full(RateLimited):
    """``shut`` is the seconds until something may be let in again."""

    shut = 0.0


class Turn(Protocol):
    """A job: when it was asked for, and when its turn came."""

    @property
    def queued(self) -> float: ...
    @property
    def began(self) -> float: ...


class Admission:
    """Bounds the wait of requests for a model that works on ``slots`` of them at a time.

    A burst may wait for ``max_wait`` seconds. Where whoever came for as long as two requests take had to wait for more than
    half as long as one takes, it is no burst: more comes than can be done. Then nobody waits longer than that, until nobody
    had to be refused for a while. So what is accepted takes less than twice as long as by a model that is just busy, whatever
    comes. Whatever ``max_wait`` is, a wait of one request's length is no reason to refuse a burst.

    Lives on the event loop. Until a request has ended nothing is known, and ``max_waiting`` is the only bound.
    """

    def __init__(
        self, max_wait: float, max_waiting: int, retry_after: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_wait = max_wait
        self._max_waiting = max_waiting
        self._retry_after = retry_after
        self._clock = clock
        self._usual = 0.0
        self._long_since: float | None = None  # when waits began to be longer than a request takes
        self._overloaded_until = 0.0
        self.slots = 1

    def ended(self, seconds: float) -> None:
        """A request was answered, so many seconds after its turn had come."""
        self._usual += (seconds - self._usual) * (_LATEST if self._usual else 1.0)

    def check(self, jobs: Collection[Turn], patience: float) -> None:
        """Let one more come to ``jobs``, which wait or run, in their order; it lasts ``patience`` seconds at most.

        Raises:
            Full: it would wait too long; ``Retry-After`` is when its turn would have come.
        """
        if len(jobs) < self.slots:
            self._long_since = None
            return
        now = self._clock()
        wait, longest = self._wait(jobs, now), max(self._max_wait, self._usual)
        first = next(islice(jobs, self.slots, None), None)
        late = first is not None and now - first.queued > longest
        if self._stands(wait, now) or wait > min(longest, patience) or late or len(jobs) - self.slots >= self._max_waiting:
            error = Full("The model has too many requests waiting.", retry_after=max(wait, self._retry_after))
            error.shut = min(_SHUT, wait - _SHARE * self._usual if now < self._overloaded_until else wait - longest)
            raise error

    def _wait(self, jobs: Collection[Turn], now: float) -> float:
        """All take as long as usual, so its turn comes some rounds after that of one of those who have theirs."""
        rounds, place = divmod(len(jobs) - self.slots, self.slots)
        before = next(islice(jobs, place, None))
        return self._usual * rounds + max(0.0, self._usual - (now - before.began))

    def _stands(self, wait: float, now: float) -> bool:
        """Whether ``wait`` is too long for times in which more comes than can be done."""
        if wait <= _SHARE * self._usual:
            self._long_since = None
            return False
        window = max(_AT_LEAST, _ROUNDS * self._usual)
        if self._long_since is None:
            self._long_since = now
        if now < self._overloaded_until or now - self._long_since > window:
            self._overloaded_until = now + window
            return True
        return False
