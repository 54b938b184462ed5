"""The account of one request. What is done for each chunk of an answer is one addition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from openai_compat.config import Price
from openai_compat.gateway.metering.cost import Counts, rates_of
from openai_compat.gateway.metering.counters import Sums
from openai_compat.gateway.metering.standing import Pairs

OnUsage = Callable[[Counts | None], None]
_FREE = Price()
_MOST = 1 << 40


class Guess(Protocol):
    """What a request and its answer come to where nobody counts."""

    def __call__(self, size: int) -> Counts:
        """``size`` are the bytes of the answer that went to the client."""

    def forget(self) -> None:
        """The request, and keep what it came to."""


class Book(Protocol):
    """Where accounts are settled."""

    def booked(self, tally: Tally, label: str, sums: Sums) -> None:
        """Something was used of the model ``label``."""

    def settled(self, tally: Tally) -> None:
        """Nothing more comes."""


class Reservation(Protocol):
    """What was set aside for a request. ``headers`` tell the client what is left."""

    headers: Pairs

    def leave(self) -> None:
        """Its answer is on its way to the client as a whole: another request may take its place."""

    def settle(self, now: float, *, tokens: int, cost: int) -> None:
        """All is known that it used; once."""


class Tally:
    """See ``gateway.order.Tally``. It is settled when it is closed and every target that was to report has done so.

    Attributes:
        key_id: whose request it is.
        label: the target that was tried last, empty where none was.
        used_tokens, used_cost: all that was booked.
        hold: until it is settled.
    """

    __slots__ = (
        "_book", "_bytes", "_counts", "_failed", "_guess", "_over", "_price", "_reported", "_waits", "hold", "key_id", "label",
        "used_cost", "used_tokens",
    )  # fmt: skip

    def __init__(self, book: Book, key_id: str, guess: Guess, hold: Reservation | None = None) -> None:
        self.key_id = key_id
        self.label = ""
        self.hold = hold
        self.used_tokens = 0
        self.used_cost = 0
        self._book = book
        self._guess: Guess | None = guess
        self._price = _FREE
        self._counts: Counts | None = None
        self._bytes = 0
        self._waits = 0
        self._reported = False
        self._failed = False
        self._over = False

    def aim(self, label: str, price: Price) -> None:
        self.label = label
        self._price = price
        self._counts = None
        self._reported = False

    def awaits(self) -> OnUsage:
        """For a target that says by itself what it did, whatever becomes of its answer, as our workers do.

        What is returned is to be called once: with the counts, or with None when they never come.
        """
        self._waits += 1
        return partial(self._report, self.label, self._price)

    def spent(self, label: str, price: Price) -> None:
        """By a target that was let go before its answer began: the prompt, by estimate, as another one answers the request."""
        if self._guess is not None:
            self._count(label, price, self._guess(0), requests=0, estimated=True)

    def used(self, prompt: int, completion: int, cached: int = 0) -> None:
        read = _sane(prompt)
        self._counts = Counts(read, _sane(completion), min(_sane(cached), read))

    def passed(self, size: int) -> None:
        self._bytes += size

    def forget(self) -> None:
        if self._guess is not None:
            self._guess.forget()

    def close(self, *, complete: bool, failed: bool = False) -> None:
        """``failed``: the last target said no, so what it did not count is nothing. A second time changes nothing."""
        if not self._over:
            self._over = True
            self._failed = failed
            self._settle()

    def _report(self, label: str, price: Price, counts: Counts | None) -> None:
        self._waits -= 1
        if counts is not None:
            self._reported = self._reported or label == self.label
            self._count(label, price, counts, requests=0, estimated=False)
        self._settle()

    def _settle(self) -> None:
        if not self._over or self._waits:
            return
        if self.label:
            self._finish()
        self._guess = None  # it holds the request's body
        self._book.settled(self)

    def _finish(self) -> None:
        """Count the request itself, for the target that was tried last, unless that has refused it."""
        counts, estimated = self._counts, False
        if counts is None and not self._reported and not self._failed and self._guess is not None:
            counts, estimated = self._guess(self._bytes), True
        self._count(self.label, self._price, counts or Counts(), requests=0 if self._failed else 1, estimated=estimated)

    def _count(self, label: str, price: Price, counts: Counts, *, requests: int, estimated: bool) -> None:
        rates = rates_of(price)
        if not (requests or counts.prompt or counts.completion):
            return
        sums = Sums(requests=requests)
        sums.count(counts, rates.of(counts) + requests * rates.request, estimated=estimated)
        self.used_tokens += sums.tokens
        self.used_cost += sums.cost
        self._book.booked(self, label, sums)


def _sane(count: int) -> int:
    """Upstreams say what they like, and a sum must stay one."""
    return min(max(count, 0), _MOST)
