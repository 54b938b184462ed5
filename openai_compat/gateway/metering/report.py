"""What was used, as ``/v1/usage`` tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from openai_compat.gateway.metering.cost import amount
from openai_compat.gateway.metering.counters import HOUR, Sums
from openai_compat.gateway.metering.keeper import UsageKeeper, by_day
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.quota import Standing
from openai_compat.grants import ANYBODY, Grant
from schemas.usage import DayUsage, LimitUsage, UsageCounts, UsageList, UsageQuery

_DAY = 24 * HOUR


class UsageReport:
    """Shows each key what is its own, and whoever needs none everything."""

    def __init__(self, keeper: UsageKeeper, ledger: Ledger, *, clock: Callable[[], float] = time.time) -> None:
        self._keeper = keeper
        self._ledger = ledger
        self._clock = clock

    async def usage(self, grant: Grant, query: UsageQuery) -> UsageList:
        first_day = int(self._clock() // _DAY) - query.days + 1
        since = first_day * (_DAY // HOUR)
        table = await self._keeper.read(key_id=None if grant is ANYBODY else grant.key_id, since=since, model=query.model)
        days = by_day(table)
        total = Sums()
        for sums in days.values():
            total.add(sums)
        data = tuple(DayUsage(date=_date(day), model=model, **_counts(sums)) for (day, model), sums in days.items())
        limits = {standing.name: _limit(standing) for standing in self._ledger.standing(grant)}
        return UsageList(data=data, total=UsageCounts(**_counts(total)), limits=limits)


def _limit(standing: Standing) -> LimitUsage:
    numbers = (standing.most, standing.used, max(0, standing.most - standing.used))
    most, used, remaining = (amount(number) if standing.of_cost else number for number in numbers)
    return LimitUsage(limit=most, used=used, remaining=remaining)


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
