"""Whether a request may wait for the model, by how long it would have to.

A number of waiting requests says little: sixty-four are gone at once from one model, and keep another busy for an hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from openai_compat.errors import RateLimited

_LATEST = 0.2  # how much the last request counts beside all before it
_AT_LEAST = 1.0  # seconds; a shorter queue is none that stands
_ROUNDS = 2.0  # requests' lengths after which it is no burst any more


class Admission:
    """Bounds the wait of requests for a model that works on ``slots`` of them at a time.

    A burst may wait for ``max_wait`` seconds. Where no slot was free for as long as two requests take, it is no burst: more
    comes than can be done, and from then on nobody waits longer than a request takes. So what is accepted takes twice as long
    as by a model that is just busy, whatever comes. A wait of one request's length is always allowed.

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
        self._full_since: float | None = None
        self.slots = 1

    def ended(self, seconds: float) -> None:
        """A request was answered, so many seconds after its turn had come."""
        self._usual += (seconds - self._usual) * (_LATEST if self._usual else 1.0)

    def check(self, jobs: int, *, oldest: float, patience: float) -> None:
        """Let one more come to ``jobs`` that wait or run.

        Args:
            jobs: those that wait or run.
            oldest: seconds that the first in line has waited.
            patience: seconds until nobody wants the answer any more.

        Raises:
            RateLimited: it would wait too long; ``Retry-After`` is when those that are there are done.
        """
        ahead = jobs + 1 - self.slots
        if ahead <= 0:
            self._full_since = None
            return
        now = self._clock()
        if self._full_since is None:
            self._full_since = now
        wait = self._usual * ahead / self.slots
        bound = self._bound(now - self._full_since)
        if wait > min(bound, patience) or oldest > max(bound, self._usual) or ahead > self._max_waiting:
            raise RateLimited("The model has too many requests waiting.", retry_after=max(wait, self._retry_after))

    def _bound(self, full: float) -> float:
        stands = full > max(_AT_LEAST, _ROUNDS * self._usual)
        return self._usual if stands else max(self._max_wait, self._usual)
