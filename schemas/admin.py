"""What operators send and read at ``/admin/keys``. Unknown fields are refused: a limit that is misspelt must not be none."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from openai_compat.grants import CLIENTS, KeyLimits, Scope

_PLAIN = r"[^\x00-\x1f\x7f-\x9f]"  # no control characters
_PLAIN_BUT_STAR = r"[^\x00-\x1f\x7f-\x9f*]"
Name = Annotated[str, Meta(max_length=100, pattern=rf"\A{_PLAIN}*\Z")]
ModelName = Annotated[
    str,
    Meta(min_length=1, max_length=256, pattern=rf"\A{_PLAIN_BUT_STAR}*\*?{_PLAIN_BUT_STAR}*\Z", description="one * at most"),
]
Models = Annotated[tuple[ModelName, ...], Meta(max_length=100)]
Scopes = Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=32)]
Most = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
Cost = Annotated[float, Meta(ge=0, le=1e12)]
Moment = Annotated[int, Meta(ge=1, le=253_402_300_799)]
"""Unix seconds, up to the year 9999."""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """0 is no limit, null the server's (``[metering]``); what is left out stays as it is, in a new key the server's.

    ``cost_per_day`` and ``budget``, which is for the key's whole life, are in the currency of the prices.
    """

    requests_per_minute: Most | UnsetType | None = UNSET
    tokens_per_minute: Most | UnsetType | None = UNSET
    tokens_per_day: Most | UnsetType | None = UNSET
    cost_per_day: Cost | UnsetType | None = UNSET
    concurrent_requests: Most | UnsetType | None = UNSET
    budget: Cost | UnsetType | None = UNSET


class CreateKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``models`` are names as clients write them, each with one ``*`` at most; all models where there are none."""

    name: Name = ""
    scopes: Scopes = tuple(sorted(CLIENTS))
    models: Models = ()
    limits: Limits = Limits()
    expires_at: Moment | None = None


class UpdateKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is left out stays as it is. Null takes away: all limits of its own, the expiry, the list of models."""

    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    models: Models | UnsetType | None = UNSET
    limits: Limits | UnsetType | None = UNSET
    expires_at: Moment | UnsetType | None = UNSET


class KeyListQuery(Struct, frozen=True, kw_only=True):
    """``after`` is the id of the last key of the page before."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: Annotated[str, Meta(max_length=64)] | None = None


class Key(Struct, frozen=True, kw_only=True):
    """``id`` is what the log and usage call it. ``last_used_at`` is up to a minute old; ``spent`` is what it has cost."""

    object: Literal["api_key"] = "api_key"
    id: str
    name: str
    status: Literal["active", "expired", "revoked"]
    scopes: tuple[Scope, ...]
    models: tuple[str, ...]
    limits: KeyLimits
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    spent: float


class NewKey(Key, frozen=True, kw_only=True):
    """``value`` is the key itself, and this answer the only one that ever has it."""

    value: str


class KeyList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[Key, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class KeyDeleted(Struct, frozen=True, kw_only=True):
    object: Literal["api_key.deleted"] = "api_key.deleted"
    id: str
    deleted: bool = True
