"""What was used, as ``/v1/usage`` tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from openai_compat.gateway.metering.cost import amount
from openai_compat.gateway.metering.counters import HOUR, Sums
from openai_compat.gateway.metering.keeper import UsageKeeper, by_day
from schemas.usage import DayUsage, UsageCounts, UsageList, UsageQuery

_DAY = 24 * HOUR


class UsageReport:
    """Shows each key what is its own; ``open_to_all``, where there are no keys, shows everything."""

    def __init__(self, keeper: UsageKeeper, *, open_to_all: bool, clock: Callable[[], float] = time.time) -> None:
        self._keeper = keeper
        self._open_to_all = open_to_all
        self._clock = clock

    async def usage(self, key_id: str, query: UsageQuery) -> UsageList:
        first_day = int(self._clock() // _DAY) - query.days + 1
        table = await self._keeper.read(
            key_id=None if self._open_to_all else key_id, since=first_day * (_DAY // HOUR), model=query.model
        )
        days = by_day(table)
        total = Sums()
        for sums in days.values():
            total.add(sums)
        data = tuple(DayUsage(date=_date(day), model=model, **_counts(sums)) for (day, model), sums in days.items())
        return UsageList(data=data, total=UsageCounts(**_counts(total)))


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY, UTC).date().isoformat()


def _counts(sums: Sums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "prompt_tokens": sums.prompt,
        "cached_tokens": sums.cached,
        "completion_tokens": sums.completion,
        "total_tokens": sums.tokens,
        "estimated_tokens": sums.estimated,
        "cost": amount(sums.cost),
    }
