"""Rotary positions that hang on the longest sequence of a call: packed with a long prompt, a short one would change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_LONG = frozenset({"longrope", "su"})
_DYNAMIC = "dynamic"


def packs_up_to(config: Mapping[str, Any]) -> int | None:
    """Tokens of the longest sequences that may share a call, by a text model's configuration; None: as many as it takes.

    See ``dynamic_rope_update`` of transformers.
    """
    found = [most for one in _settings(config) if (most := _original(one, config)) is not None]
    return min(found, default=None)


def _settings(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of all layers, or of each kind."""
    for name in ("rope_parameters", "rope_scaling"):
        settings = config.get(name)
        if isinstance(settings, Mapping):
            yield settings
            yield from (one for one in settings.values() if isinstance(one, Mapping))


def _original(settings: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    kind = str(settings.get("rope_type", settings.get("type")))
    if kind in _LONG:
        places = (settings, config)
        known = (place.get("original_max_position_embeddings") for place in places)
        return int(next((value for value in known if value), 0))
    return int(config.get("max_position_embeddings") or 0) if _DYNAMIC in kind else None
