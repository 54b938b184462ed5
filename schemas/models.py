"""The model object and list."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class Model(Struct, frozen=True, kw_only=True):
    """OpenAI's four keys, and what a client may want to know of a model here.

    ``created`` is a Unix time in whole seconds; ``state`` says whether the model is in memory.
    """

    id: str
    created: int
    owned_by: str = "openai-compat"
    object: Literal["model"] = "model"
    capabilities: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    context_length: int | None = None
    aliases: tuple[str, ...] = ()
    state: str = "unloaded"


class ModelList(Struct, frozen=True, kw_only=True):
    """``models`` is for Codex, which asks with its version and reads a catalogue of its own kind there: an empty one leaves it
    with its own.
    """

    data: tuple[Model, ...]
    object: Literal["list"] = "list"
    models: tuple[str, ...] | UnsetType = UNSET


class LoadProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``value`` is the share done of the stage ``current``, 0 to 1, where it is known."""

    stages: tuple[str, ...]
    current: str
    value: float | None = None


class ModelStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: Literal["unloaded", "loading", "loaded", "unloading", "failed"]
    progress: LoadProgress | None = None
    error: str | None = None


class ModelEvent(Struct, frozen=True, kw_only=True):
    """One event of ``/models/sse``, as llama.cpp's server writes it."""

    model: str
    data: ModelStatus
    event: Literal["model_status"] = "model_status"
