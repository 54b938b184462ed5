"""What operators are told about the configuration."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Reloaded(Struct, frozen=True, kw_only=True):
    """``changed`` are names of settings; their values are not told."""

    object: Literal["reload"] = "reload"
    changed: tuple[str, ...]
