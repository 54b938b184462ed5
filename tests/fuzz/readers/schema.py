"""JSON schemas of clients: one that passes is within bounds, and the grammar's source says the same."""

from __future__ import annotations

import json

import msgspec

from openai_compat.errors import InvalidRequest
from openai_compat.translate.schema_bounds import MAX_BYTES
from openai_compat.translate.structured import grammar_of
from schemas.chat import ChatCompletionRequest
from schemas.decode import decode

HEAD, TAIL = b'{"model":"m","messages":[],"guided_json":', b"}"


def fuzz(data: bytes) -> None:
    try:
        body = decode(HEAD + data + TAIL, ChatCompletionRequest)
        spec = grammar_of(body)
    except InvalidRequest as error:
        error.message.encode()
        return
    if spec is not None and spec.kind == "json_schema":
        assert len(spec.source.encode()) <= MAX_BYTES
        given = body.guided_json
        assert json.loads(spec.source) == (msgspec.json.decode(given) if isinstance(given, str) else given)
