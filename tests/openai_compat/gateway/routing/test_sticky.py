"""What of a request says which others it belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.gateway.routing.sticky import SESSION_HEADERS, _prefix, sticky_key

SYSTEM = {"role": "system", "content": "You are a parrot."}
FIRST = {"role": "user", "content": "Hello"}


class Asked:
    """The part of an order that the prefix is read from."""

    def __init__(self, body: bytes) -> None:
        self.body = body


@pytest.fixture
def order(bench: Callable[..., Any]) -> Callable[..., Any]:
    return lambda body=None, **fields: bench().order(body=json.dumps(body or {}).encode(), **fields)


def test_without_a_setting_no_request_belongs_to_another(order: Callable[..., Any]) -> None:
    assert sticky_key("", order({"user": "ann"})) is None


def test_the_user_and_the_cache_key_are_fields_of_the_body(order: Callable[..., Any]) -> None:
    assert sticky_key("user", order({"user": "ann"})) == b"ann"
    assert sticky_key("prompt_cache_key", order({"prompt_cache_key": "k"})) == b"k"


@pytest.mark.parametrize("kind", ["user", "prompt_cache_key"])
@pytest.mark.parametrize("value", [None, "", 7, ["a"], {"a": 1}])
def test_what_is_no_text_keeps_nothing_together(order: Callable[..., Any], kind: str, value: Any) -> None:
    assert sticky_key(kind, order({kind: value})) is None


@pytest.mark.parametrize("header", SESSION_HEADERS)
def test_the_session_is_found_in_each_header_that_agents_send(order: Callable[..., Any], header: bytes) -> None:
    assert sticky_key("session", order(headers=[(b"accept", b"*/*"), (header, b"s1")])) == b"s1"


def test_our_own_name_of_the_session_comes_first_and_an_empty_one_counts_for_nothing(order: Callable[..., Any]) -> None:
    both = [(b"session_id", b"other"), (b"x-session-id", b"ours")]
    assert sticky_key("session", order(headers=both)) == b"ours"
    assert sticky_key("session", order(headers=[(b"x-session-id", b""), (b"session_id", b"other")])) == b"other"
    assert sticky_key("session", order()) is None


def test_the_turns_of_a_conversation_have_the_same_prefix(order: Callable[..., Any]) -> None:
    first = order({"messages": [SYSTEM, FIRST], "temperature": 1})
    later = order({"model": "r", "messages": [SYSTEM, FIRST, {"role": "assistant", "content": "Hi"}, FIRST]})
    assert sticky_key("prefix", first) == sticky_key("prefix", later) is not None


def test_conversations_that_begin_differently_have_different_prefixes(order: Callable[..., Any]) -> None:
    other = {"role": "user", "content": "Bonjour"}
    keys = {sticky_key("prefix", order({"messages": messages})) for messages in ([SYSTEM, FIRST], [SYSTEM, other], [FIRST])}
    assert len(keys) == 3


@pytest.mark.parametrize("field", ["prompt", "input"])
def test_a_prompt_that_is_one_text_has_its_beginning_for_a_prefix(order: Callable[..., Any], field: str) -> None:
    long = "x" * 5000
    assert sticky_key("prefix", order({field: long + "a"})) == sticky_key("prefix", order({field: long + "b"})) is not None
    assert sticky_key("prefix", order({field: "a"})) != sticky_key("prefix", order({field: "b"}))


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda kids: st.lists(kids, max_size=3), max_leaves=6))
def test_a_body_that_no_model_would_take_is_the_targets_to_refuse(messages: Any) -> None:
    assert isinstance(_prefix(Asked(json.dumps({"messages": messages}).encode())), bytes | None)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": [{"role": ', b"\xff"])
def test_a_body_that_is_no_json_object_has_no_prefix(body: bytes) -> None:
    assert _prefix(Asked(body)) is None  # type: ignore[arg-type]


def test_an_upload_has_no_prefix() -> None:
    assert _prefix(Asked(object())) is None  # type: ignore[arg-type]
