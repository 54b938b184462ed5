"""A JSON body on its way to an upstream: what a rule names is changed, and every other value arrives byte for byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from openai_compat.config import UpstreamModel
from openai_compat.errors import InvalidRequest
from openai_compat.gateway.order import Envelope
from openai_compat.gateway.upstreams.rewrite import is_ambiguous, may_ask_usage, must_change, rewritten

CHAT = "/v1/chat/completions"
TEXT = some.text(some.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = some.sampled_from(["0", "-0", "1.0", "1e5", "1E+05", "0.10", "12345678901234567890123", "1.7976931348623157e308"])


def raw(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@some.composite
def spelled(draw: Any) -> str:
    """A JSON value in one of the many ways to write it."""
    value = draw(
        some.recursive(
            some.none() | some.booleans() | TEXT,
            lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXT, inner, max_size=3),
            max_leaves=4,
        )
    )
    text = json.dumps(value, ensure_ascii=draw(some.booleans()), indent=draw(some.sampled_from([None, 1])))
    return draw(some.one_of(some.just(text), NUMBERS))


NAMES = TEXT.filter(lambda name: name == "model" or name.lower() != "model") | some.sampled_from(
    ["model", "messages", "user", "stream_options", "temperature", "top_k"]
)
PAIRS = some.lists(some.tuples(NAMES, spelled(), some.booleans()), max_size=5)


def body_of(pairs: list[tuple[str, str, bool]]) -> bytes:
    """An object with exactly these values in it, in this order, names twice where they are twice."""
    return (
        "{" + " ,\n".join(f"{json.dumps(name, ensure_ascii=plain)}: {value}" for name, value, plain in pairs) + "}"
    ).encode()


def values(body: bytes) -> dict[str, bytes]:
    return {name: bytes(value) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


def changed(body: dict[str, Any] | bytes, *, ask: bool = False, remote: str = "there", **rules: Any) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else raw(body).encode()
    return json.loads(rewritten(data, UpstreamModel(**rules), remote, ask_usage=ask)[0])


@settings(max_examples=60, deadline=None)
@given(PAIRS, TEXT)
def test_every_value_but_the_model_arrives_byte_for_byte_in_its_order(pairs, remote) -> None:
    body, asked = rewritten(body_of(pairs), UpstreamModel(), remote, ask_usage=False)
    sent = {name: value.encode() for name, value, _ in pairs}
    got = values(body)
    assert json.loads(got.pop("model")) == remote
    sent.pop("model", None)
    assert got == sent
    assert not asked
    order = list(dict.fromkeys(name for name, _, _ in pairs))
    assert list(json.loads(body)) == (order if "model" in order else [*order, "model"])


@settings(max_examples=60, deadline=None)
@given(
    PAIRS, some.sets(NAMES, max_size=3), some.dictionaries(NAMES, NAMES, max_size=2), some.dictionaries(NAMES, TEXT, max_size=2)
)
def test_only_fields_that_a_rule_names_change(pairs, drop, rename, default) -> None:
    rules = UpstreamModel(drop=tuple(drop), rename=rename, default=default)
    got = values(rewritten(body_of(pairs), rules, "there", ask_usage=False)[0])
    touched = {"model", *drop, *rename, *rename.values(), *default}
    assert {name: value for name, value in got.items() if name not in touched} == {
        name: value.encode() for name, value, _ in pairs if name not in touched
    }


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_asking_for_usage_changes_nothing_else(pairs) -> None:
    without = rewritten(body_of(pairs), UpstreamModel(), "there", ask_usage=False)[0]
    body, asked = rewritten(body_of(pairs), UpstreamModel(), "there", ask_usage=True)
    before, after = values(without), values(body)
    options = json.loads(before.pop("stream_options", b"null"))
    now = json.loads(after.pop("stream_options", b"null"))
    assert before == after
    if options is None or isinstance(options, dict):
        assert asked
        assert now == {**(options or {}), "include_usage": True}
    else:
        assert not asked
        assert now == options


def test_fields_are_dropped_then_renamed_then_given_their_defaults() -> None:
    rules = {
        "drop": ("seed", "x"),
        "rename": {"max_completion_tokens": "max_tokens", "y": "x"},
        "default": {"x": 5, "top_p": 1},
    }
    body = {"model": "here", "seed": 1, "x": 2, "y": 3, "max_completion_tokens": 7, "top_p": 0.5}
    assert changed(body, **rules) == {"model": "there", "x": 3, "max_tokens": 7, "top_p": 0.5}
    assert changed({"model": "here"}, **rules) == {"model": "there", "x": 5, "top_p": 1}


def test_a_field_that_is_there_under_the_new_name_already_wins() -> None:
    rename = {"max_completion_tokens": "max_tokens"}
    assert changed({"max_completion_tokens": 7, "max_tokens": 3}, rename=rename) == {"max_tokens": 3, "model": "there"}


def test_null_is_a_value_that_no_default_replaces() -> None:
    assert changed({"stop": None}, default={"stop": ["x"]}) == {"stop": None, "model": "there"}


def test_the_model_can_be_left_out_for_upstreams_that_have_it_in_their_address() -> None:
    assert changed({"model": "here", "n": 1}, drop=("model",)) == {"n": 1}


def test_the_other_options_of_a_stream_stay() -> None:
    body = b'{"stream":true,"stream_options":{"include_obfuscation": 1.50, "include_usage": false}}'
    got, asked = rewritten(body, UpstreamModel(), "there", ask_usage=True)
    assert asked
    assert b'"include_obfuscation":1.50' in got
    assert json.loads(got)["stream_options"]["include_usage"] is True


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"{", b"", b"nope", b"[" * 200_000, b'{"a":' * 200_000])
def test_what_is_no_object_is_refused(body) -> None:
    with pytest.raises(InvalidRequest):
        rewritten(body, UpstreamModel(), "there", ask_usage=False)


@pytest.mark.parametrize("name", ["k%d", "k%d\\\\", '\\"%d\\\\\\"'])
def test_so_many_fields_that_others_would_wait_for_them_are_refused(name) -> None:
    fields = ", ".join(f'"{name % number}" :1' for number in range(140_000))
    with pytest.raises(InvalidRequest, match="names of fields"):
        rewritten(f"{{{fields}}}".encode(), UpstreamModel(), "there", ask_usage=False)


def test_json_within_a_text_has_no_fields() -> None:
    text = json.dumps({f"k{number}": number for number in range(140_000)})
    assert changed({"input": text}) == {"input": text, "model": "there"}


def test_usage_is_asked_where_it_is_told_on_request_only() -> None:
    stream = Envelope(model="m", stream=True)
    assert may_ask_usage(CHAT, stream, UpstreamModel())
    assert may_ask_usage("/v1/completions", stream, UpstreamModel())
    assert not may_ask_usage("/v1/responses", stream, UpstreamModel())
    assert not may_ask_usage("/v1/audio/speech", stream, UpstreamModel())
    assert not may_ask_usage(CHAT, Envelope(model="m"), UpstreamModel())
    assert not may_ask_usage(CHAT, Envelope(model="m", stream="true"), UpstreamModel())
    assert not may_ask_usage(CHAT, Envelope(model="m", stream=True, stream_options={"include_usage": True}), UpstreamModel())
    assert may_ask_usage(CHAT, Envelope(model="m", stream=True, stream_options={"include_usage": False}), UpstreamModel())
    assert not may_ask_usage(CHAT, stream, UpstreamModel(drop=("stream_options",)))


def test_nothing_changes_without_a_reason() -> None:
    assert not must_change(Envelope(model="m"), UpstreamModel(), "m")
    assert must_change(Envelope(model="m"), UpstreamModel(), "n")
    assert must_change(Envelope(), UpstreamModel(), "m")
    for rules in ({"drop": ("a",)}, {"rename": {"a": "b"}}, {"default": {"a": 1}}):
        assert must_change(Envelope(model="m"), UpstreamModel(**rules), "m")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"dear","model":"cheap"}',
        b'{"model":"cheap","Model":"dear"}',
        b'{"MODEL":"dear","model":"cheap"}',
        b'{"\\u006dodel":"dear","model":"cheap"}',
        b'{"model":"cheap","\\u004DODEL":"dear"}',
    ],
)
def test_a_body_that_names_two_models_names_the_one_that_was_read(body) -> None:
    """Of a key that is there twice some servers take the first, and Go's take one in other letters."""
    assert is_ambiguous(body)
    assert rewritten(body, UpstreamModel(), "cheap", ask_usage=False) == (b'{"model":"cheap"}', False)


def test_a_body_that_names_one_model_is_left_alone() -> None:
    assert not is_ambiguous(b'{"model":"cheap","messages":[{"role":"user","content":"model \\u00e9"}]}')
