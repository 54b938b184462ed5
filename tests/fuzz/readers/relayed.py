"""Bodies on their way to an upstream: the model that is paid for is the only one that any reader finds in what is sent."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec

from openai_compat.config import UpstreamModel
from openai_compat.errors import InvalidRequest
from openai_compat.gateway.order import Envelope
from openai_compat.gateway.routing.sticky import sticky_key
from openai_compat.gateway.upstreams.rewrite import is_ambiguous, rewritten
from schemas.decode import decode

MODEL = UpstreamModel(drop=("user",), rename={"max_tokens": "max_completion_tokens"}, default={"top_k": 5})


def fuzz(data: bytes) -> None:
    try:
        envelope = decode(data, Envelope)
    except InvalidRequest as error:
        error.message.encode()
        return
    order: Any = SimpleNamespace(body=data, envelope=envelope, headers=[])
    for kind in ("user", "prompt_cache_key", "session", "prefix"):
        sticky_key(kind, order)
    if envelope.model is not None and not is_ambiguous(data):  # one that names no model is always written anew
        assert models(data) == {envelope.model}
    try:
        sent, asked = rewritten(data, MODEL, "theirs", ask_usage=True)
    except InvalidRequest:
        return
    check(data, sent, asked=asked)


def check(data: bytes, sent: bytes, *, asked: bool) -> None:
    assert models(sent) == {"theirs"}
    before, after = (msgspec.json.decode(body, type=dict[str, msgspec.Raw]) for body in (data, sent))
    assert not {"user", "max_tokens"} & set(after)
    for name in set(before) & set(after) - {"model", "stream_options"}:
        assert bytes(before[name]) == bytes(after[name])
    if asked:
        assert msgspec.json.decode(after["stream_options"])["include_usage"] is True


def models(body: bytes) -> set[Any]:
    """What any reader may take for the model: the first, the last, whatever the letters' case."""
    found: set[Any] = set()

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.clear()
        found.update(str(value) if value is not None else None for name, value in pairs if name.lower() == "model")
        return {}

    json.loads(body, object_pairs_hook=note)
    return found or {None}
