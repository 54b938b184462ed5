"""What a model needs before it can be loaded: its files, and bytes."""

from __future__ import annotations

from typing import Protocol

from handlers.types import Analysis, ModelSpec
from openai_compat.gateway.slot import Slot
from openai_compat.sizes import parse_size


class Facts(Protocol):
    """The part of the catalog that is needed here; both may read files."""

    def spec(self, model_id: str) -> ModelSpec: ...

    def analysis(self, model_id: str) -> Analysis: ...


def read_needs(catalog: Facts, slot: Slot) -> tuple[ModelSpec, int, int]:
    """The model's spec, the bytes it is thought to take, and the bytes that it is taken to hold whatever is measured (or 0)."""
    spec = catalog.spec(slot.model_id)
    if slot.settings.memory is not None:
        size = parse_size(slot.settings.memory)
        return spec, size, size
    estimate = catalog.analysis(slot.model_id).load_bytes
    # What an engine holds on a GPU is measured by nobody, so the estimate stays.
    return spec, estimate, estimate if slot.settings.command else 0
