"""``GET /v1/usage``: what a key has used."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class UsageQuery(Struct, frozen=True, kw_only=True):
    """``days`` are the last ones, today's among them; ``model`` is one model's name as the answer has it."""

    days: Annotated[int, Meta(ge=1, le=366)] = 30
    model: str | None = None


class UsageCounts(Struct, frozen=True, kw_only=True):
    """Tokens, and a cost in the currency of the configured prices.

    ``cached_tokens`` are among the prompt's. ``estimated_tokens`` are those of prompts and completions that nobody counted.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    estimated_tokens: int = 0
    cost: float = 0.0


class DayUsage(UsageCounts, frozen=True, kw_only=True):
    """One model on one day, in UTC."""

    object: Literal["usage.day"] = "usage.day"
    date: str
    model: str


class LimitUsage(Struct, frozen=True, kw_only=True):
    """How a key stands with one of its limits: in requests, tokens, or the currency of the configured prices.

    ``used`` is what the limit counts at this moment, with what is set aside for requests that run.
    """

    limit: int | float
    used: int | float
    remaining: int | float


class UsageList(Struct, frozen=True, kw_only=True):
    """``limits`` are the key's, by their names in the configuration; empty where it has none."""

    object: Literal["list"] = "list"
    data: tuple[DayUsage, ...]
    total: UsageCounts
    limits: dict[str, LimitUsage] = {}
