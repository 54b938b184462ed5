"""What operators read of the models in memory, and say to them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Resident(Struct, frozen=True, kw_only=True):
    """``memory`` is bytes reserved by device (``host``, ``cuda:0`` …), ``active`` are requests being answered."""

    id: str
    state: str
    stage: str = ""
    memory: dict[str, int] = {}
    device: str = ""
    active: int = 0
    waiting: int = 0
    error: str | None = None


class ResidentList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[Resident, ...]


class UnloadRequest(Struct, frozen=True, kw_only=True):
    """``model`` is an id, and no other name."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
