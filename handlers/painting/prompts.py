"""How much text a pipeline reads. CLIP cuts a longer prompt in silence; here it is refused, unless the operator allows cuts."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from handlers.painting.calls import Call
from openai_compat.errors import InvalidRequest

_ENDLESS = 100_000
_LENGTH = "max_sequence_length"


class Reading(Struct, frozen=True):
    """Tokens of a text in one encoder, special ones among them, and the most that it reads."""

    tokens: int
    limit: int


def check_length(pipeline: Any, call: Call, text: str, param: str) -> None:
    """One encoder that reads all of it is enough. Raises ``InvalidRequest`` naming ``param`` and both numbers."""
    readings = _readings(pipeline, call, text)
    if not readings or any(reading.tokens <= reading.limit for reading in readings):
        return
    longest = max(readings, key=lambda reading: reading.limit)
    raise InvalidRequest(
        f"The prompt has {longest.tokens} tokens; this model reads {longest.limit}. Please shorten it.", param=param
    )


def tokens_of(pipeline: Any, call: Call, text: str) -> int:
    """What the encoder of the longest texts reads of it."""
    readings = _readings(pipeline, call, text)
    return max((min(reading.tokens, reading.limit) for reading in readings), default=0)


def _readings(pipeline: Any, call: Call, text: str) -> list[Reading]:
    found = (_reading(part, call, text) for name, part in pipeline.components.items() if "tokenizer" in name)
    return [reading for reading in found if reading is not None]


def _reading(tokenizer: Any, call: Call, text: str) -> Reading | None:
    """A pipeline's own limit is for its language model; CLIP has its positions."""
    if tokenizer is None:
        return None
    limit = int(min(getattr(tokenizer, "model_max_length", _ENDLESS), _ENDLESS))
    own = call.default(_LENGTH)
    if isinstance(own, int) and not type(tokenizer).__name__.startswith("CLIP"):
        limit = own
    return Reading(len(tokenizer(text).input_ids), limit) if limit < _ENDLESS else None
