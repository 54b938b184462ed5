"""Loading and unloading models as llama.cpp's server has it, for the buttons of clients that know it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Condition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``failed`` where the last load came to nothing."""

    value: Literal["unloaded", "loading", "loaded"]
    failed: bool = False


class LoadableModel(Struct, frozen=True, kw_only=True):
    id: str
    created: int
    owned_by: str
    status: Condition
    object: Literal["model"] = "model"


class LoadableList(Struct, frozen=True, kw_only=True):
    data: tuple[LoadableModel, ...]
    object: Literal["list"] = "list"


class LoadRequest(Struct, frozen=True, kw_only=True):
    """``model`` is any name of a model of this machine."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]


class Accepted(Struct, frozen=True, kw_only=True):
    """What was asked for has begun; ``/models/sse`` and the list tell how it goes on."""

    success: bool = True
