"""A key as it is kept."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from openai_compat.grants import Grant, KeyLimits, Scope

Standing = Literal["active", "expired", "revoked"]


class StoredKey(Struct, frozen=True, kw_only=True):
    """Times are Unix seconds. ``spent`` is what it has cost so far, in 10¹²th parts of the currency; ``version`` is the
    table's when its rights were last changed.
    """

    id: str
    digest: bytes
    name: str
    scopes: frozenset[Scope]
    models: tuple[str, ...]
    limits: KeyLimits
    created: int
    expires: int | None = None
    revoked: int | None = None
    last_used: int | None = None
    spent: int = 0
    version: int = 0

    def standing(self, now: float) -> Standing:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"

    @property
    def grant(self) -> Grant:
        return Grant(
            key_id=self.id,
            name=self.name,
            scopes=self.scopes,
            models=self.models,
            limits=self.limits,
            expires=self.expires,
            spent=self.spent,
        )
