"""What the health endpoints answer."""

from __future__ import annotations

from msgspec import Struct


class Health(Struct, frozen=True, kw_only=True):
    """``status`` is ``ok`` or a word for what is missing. Anybody may ask, so nothing is said of the models."""

    status: str = "ok"
