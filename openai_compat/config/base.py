"""What every part of the configuration is made of."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

_YEAR = 31_536_000.0
Seconds = Annotated[float, Meta(ge=0, le=_YEAR)]
SomeSeconds = Annotated[float, Meta(gt=0, le=_YEAR)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
Size = int | str


class ConfigError(Exception):
    """One line for whoever wrote the configuration."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the configuration."""
