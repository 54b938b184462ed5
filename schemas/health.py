"""What the health endpoints answer."""

from __future__ import annotations

from msgspec import Struct


class Health(Struct, frozen=True, kw_only=True):
    """``status`` is ``ok`` or a word for what is missing; ``models`` maps an id to its state."""

    status: str = "ok"
    models: dict[str, str] = {}
