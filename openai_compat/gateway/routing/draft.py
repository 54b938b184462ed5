"""The account of one of two targets that are asked at the same time, until it is known which of them answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from openai_compat.config import Price
from openai_compat.gateway.metering.cost import Counts
from openai_compat.gateway.metering.tally import OnUsage
from openai_compat.gateway.order import Tally


class Draft:
    """See ``Tally``. What is said here goes to the request's account once this one has won; what a worker reports of itself is
    passed on when it is known for whom it counts. One of ``win``, ``lose`` and ``fail`` is called in the end.

    The account itself is aimed at whoever was asked last, for a client that leaves before there is a winner.
    """

    def __init__(self, tally: Tally) -> None:
        self.label = ""
        self._tally = tally
        self._price = Price()
        self._counts: tuple[int, int, int] | None = None
        self._reports = False
        self._held: list[Callable[[], None]] = []
        self._decided = False

    def aim(self, label: str, price: Price) -> None:
        self.label = label
        self._price = price
        self._tally.aim(label, price)

    def used(self, prompt: int, completion: int, cached: int = 0) -> None:
        if self._decided:
            self._tally.used(prompt, completion, cached)
        else:
            self._counts = (prompt, completion, cached)

    def awaits(self) -> OnUsage:
        self._reports = True
        self._tally.aim(self.label, self._price)
        return partial(self._report, self._tally.awaits())

    def spent(self, label: str, price: Price) -> None:
        self._tally.spent(label, price)

    def forget(self) -> None:
        self._tally.forget()

    def passed(self, size: int) -> None:
        self._tally.passed(size)

    def close(self, *, complete: bool, failed: bool = False) -> None:
        self._tally.close(complete=complete, failed=failed)

    def win(self) -> None:
        self._tally.aim(self.label, self._price)
        if self._counts is not None:
            self._tally.used(*self._counts)
        self._decide()

    def lose(self) -> None:
        """It was let go. A worker of ours will say itself what it did."""
        if self.label and not self._reports and not self._decided:
            self._tally.spent(self.label, self._price)
        self._decide()

    def fail(self) -> None:
        """It gave an error, and did no work."""
        self._decide()

    def _report(self, on_usage: OnUsage, counts: Counts | None) -> None:
        if self._decided:
            on_usage(counts)
        else:
            self._held.append(partial(on_usage, counts))

    def _decide(self) -> None:
        self._decided = True
        held, self._held = self._held, []
        for report in held:
            report()
