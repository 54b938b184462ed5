"""Whole answers of upstreams: read, repaired, given another model's name; errors in whatever shape."""

from __future__ import annotations

import json

import msgspec

from openai_compat.errors import error_body
from openai_compat.gateway.upstreams.pieces import count_usage, is_text, read_whole, repaired, rewritten
from openai_compat.gateway.upstreams.said import read_error

SECRET = "sk-secret-of-the-operator"


def fuzz(data: bytes) -> None:
    check_repair(data)
    if is_text(data):  # which comes first in the gateway, too
        check_whole(data)
    said = read_error(data, (SECRET,))
    json.dumps(error_body(ValueError())).encode()
    for text in (said.message, said.type, said.code, said.param):
        assert text is None or SECRET not in text
        (text or "").encode()


def check_whole(data: bytes) -> None:
    try:
        whole = read_whole(data)
    except (msgspec.DecodeError, RecursionError):
        return
    count_usage(whole.usage, lambda *counts: check_counts(counts))
    check_rewriting(data)


def check_counts(counts: tuple[int, ...]) -> None:
    assert all(0 <= count < 1 << 28 for count in counts)


def check_repair(data: bytes) -> None:
    mended = repaired(data)
    if mended is not None:
        msgspec.json.decode(mended)


def check_rewriting(data: bytes) -> None:
    before = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    after = msgspec.json.decode(rewritten(data, model="ours", without_usage=True), type=dict[str, msgspec.Raw])
    assert {name for name in before if name != "usage"} == set(after)
    same = set(after) - {"model", "response"}
    assert {name: bytes(before[name]) for name in same} == {name: bytes(after[name]) for name in same}
