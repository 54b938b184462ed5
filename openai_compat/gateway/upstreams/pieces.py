"""The little that the gateway reads of an answer, and changes to its top level that leave every other byte as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

Used = Callable[[int, int, int], None]
_LARGEST_COUNT = 1 << 28  # tokens; far more than any request takes, and one lie must not use up a key's limits for ever
_LARGEST_REPAIR = 4 << 20  # bytes
_HALVES = re.compile("[\\ud800-\\udfff]")
_members = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class Choice(Struct, frozen=True, gc=False):
    index: int | float | str | None = 0
    finish_reason: Any = None


class Piece(Struct, frozen=True, gc=False):
    """One event. No object is made of what it does not name, so that reading one costs half a microsecond."""

    choices: list[Choice] | UnsetType | None = UNSET
    usage: Any = UNSET
    error: Any = None
    model: Any = None
    type: Any = None


class Reply(Struct, frozen=True):
    """What the events of ``/responses`` say in ``response``."""

    usage: Any = None
    model: Any = None


class ReplyEvent(Struct, frozen=True):
    response: Reply | None = None


class Whole(Struct, frozen=True):
    """An answer that is no stream."""

    choices: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    usage: Any = None
    error: Any = None
    object: Any = None
    model: Raw | UnsetType = UNSET


read_piece = msgspec.json.Decoder(Piece).decode
read_pieces = msgspec.json.Decoder(list[Piece]).decode
read_reply = msgspec.json.Decoder(ReplyEvent).decode
read_whole = msgspec.json.Decoder(Whole).decode


def is_text(data: bytes) -> bool:
    """Whether it is UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def repaired(data: bytes) -> bytes | None:
    """Strict JSON of what only Python and JavaScript take for JSON: not-a-number, infinity, halves of characters. None if it is
    nothing of that kind. Where numbers were none there is null.
    """
    if len(data) > _LARGEST_REPAIR:
        return None
    try:
        value = json.loads(data, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return _HALVES.sub("\ufffd", json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


def count_usage(usage: Any, used: Used) -> None:
    """Tell ``used`` the prompt's tokens, the answer's, and how many of the prompt were cached; nonsense is not counted."""
    if not isinstance(usage, dict):
        return
    prompt, completion = _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")
    if prompt is None and completion is None:
        return
    cached = None
    for name in ("prompt_tokens_details", "input_tokens_details"):
        if isinstance(details := usage.get(name), dict):
            cached = _count(details, "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens")
    used(prompt or 0, completion or 0, min(cached or 0, prompt or 0))


def _count(fields: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT:
            return value
    return None


def rewritten(data: bytes, *, model: str | None, without_usage: bool = False, with_choices: bool = False) -> bytes:
    """The JSON object ``data`` with ``model`` as its model, also within ``response``, its usage taken out, or an empty list of
    choices put in.
    """
    members = _members.decode(data)
    if model is not None:
        _rename(members, model)
    if without_usage:
        members.pop("usage", None)
    if with_choices:
        members["choices"] = Raw(b"[]")
    return _encode(members)


def _rename(members: dict[str, Raw], model: str) -> None:
    name = _encode(model)
    if "model" in members:
        members["model"] = Raw(name)
    elif bytes(memoryview(members.get("response", Raw(b""))))[:1] == b"{":
        reply = _members.decode(members["response"])
        if "model" in reply:
            members["response"] = Raw(_encode({**reply, "model": Raw(name)}))
