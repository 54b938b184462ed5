"""The list of models that an upstream gives: names that are text, within bounds, or the one failure."""

from __future__ import annotations

from openai_compat.gateway.listing import MAX_MODELS, ListingFailed, models_of


def fuzz(data: bytes) -> None:
    try:
        found = models_of(data)
    except ListingFailed:
        return
    assert len(found) <= MAX_MODELS
    for name in found:
        assert name
        name.encode()
