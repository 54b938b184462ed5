"""From a message's request to a chat's: every field, and what Claude Code sends."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest
from openai_compat.translate import chat
from openai_compat.translate.anthropic.request import Turn, to_prompt, to_turn
from schemas.anthropic import CountMessageTokensRequest, CreateMessageRequest
from schemas.chat import ChatCompletionRequest
from schemas.decode import decode

AGENTS = Path(__file__).parents[3] / "compat" / "agents"
RECORDED = ["claude_code_adaptive.json", "claude_code_budget.json"]
MARK = {"type": "ephemeral"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def recorded(name: str) -> list[dict[str, Any]]:
    """The bodies of successive requests."""
    kept = json.loads((AGENTS / name).read_text())
    return [{**kept["body"], "messages": messages} for messages in kept["messages"]]


def turn_of(body: dict[str, Any]) -> Turn:
    return to_turn(decode(json.dumps(body).encode(), CreateMessageRequest))


def test_a_request_with_everything_is_a_chat_with_everything(ask) -> None:
    turn = ask(
        system=[{"type": "text", "text": "A"}, {"type": "text", "text": "B", "cache_control": MARK}],
        stop_sequences=["END"],
        temperature=0.5,
        top_k=7,
        top_p=0.9,
        thinking={"type": "enabled", "budget_tokens": 2048},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}},
        metadata={"user_id": "u"},
        service_tier="auto",
        container="c",
        mcp_servers=[{"type": "url"}],
        context_management={"edits": []},
        stream=True,
    )
    assert turn.chat == {
        "model": "m",
        "messages": [{"role": "system", "content": "A\n\nB"}, {"role": "user", "content": "Hello"}],
        "max_completion_tokens": 100,
        "stop": ["END"],
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.9,
        "reasoning_effort": "high",
        "chat_template_kwargs": {"enable_thinking": True, "thinking": True, "thinking_budget": 2048},
        "response_format": {"type": "json_schema", "json_schema": {"name": "output", "schema": SCHEMA, "strict": True}},
    }
    assert (turn.stops, turn.shows_thinking) == (("END",), True)
    chat.plan(decode(json.dumps(turn.chat).encode(), ChatCompletionRequest))


def test_what_is_not_said_is_not_asked(ask) -> None:
    nothing = dict.fromkeys(("system", "stop_sequences", "temperature", "top_k", "top_p", "tools", "tool_choice", "thinking"))
    assert ask(**nothing).chat == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_completion_tokens": 100,
    }


@pytest.mark.parametrize(
    ("thinking", "options", "shown"),
    [
        ({"type": "disabled"}, {"enable_thinking": False, "thinking": False}, False),
        (
            {"type": "enabled", "budget_tokens": 1024},
            {"enable_thinking": True, "thinking": True, "thinking_budget": 1024},
            True,
        ),
        ({"type": "adaptive"}, None, True),
        ({"type": "between_tools"}, None, True),
        (None, None, False),
    ],
)
def test_thinking_is_asked_for_in_the_words_that_templates_know(ask, thinking: Any, options: Any, shown: bool) -> None:
    turn = ask(thinking=thinking)
    assert (turn.chat.get("chat_template_kwargs"), turn.shows_thinking) == (options, shown)


def test_the_older_name_of_a_format_is_understood(ask) -> None:
    older = ask(output_format={"type": "json_schema", "schema": SCHEMA})
    assert older.chat == ask(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}).chat


def test_no_tokens_are_one_that_is_not_shown(ask) -> None:
    turn = ask(max_tokens=0)
    assert (turn.chat["max_completion_tokens"], turn.is_mute) == (1, True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 2}, "top_p"),
        ({"stop_sequences": ["a"] * 5}, "stop_sequences"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "often"}}, "thinking.type"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"output_config": {"effort": "some"}}, "output_config.effort"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
    ],
)
def test_what_is_wrong_is_refused_by_name(ask, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param


def test_max_tokens_is_required() -> None:
    with pytest.raises(InvalidRequest) as caught:
        turn_of({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
    assert (caught.value.param, caught.value.code) == ("max_tokens", "missing_required_parameter")


def test_a_conversation_that_ends_in_an_answer_can_be_counted() -> None:
    messages = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    assert to_prompt(decode(body, CountMessageTokensRequest)).chat == {"model": "m", "messages": messages}


def test_what_is_counted_is_what_is_asked() -> None:
    for body in recorded(RECORDED[0]):
        counted = to_prompt(decode(json.dumps(body).encode(), CountMessageTokensRequest)).chat
        asked = turn_of(body).chat
        assert counted == {name: asked[name] for name in counted}


# ---------------------------------------------------------------- Claude Code


@pytest.mark.parametrize("name", RECORDED)
def test_what_claude_code_sends_is_a_chat_that_a_model_takes(name: str) -> None:
    for body in recorded(name):
        turn = turn_of(body)
        chat.plan(decode(json.dumps(turn.chat).encode(), ChatCompletionRequest))
        assert len(turn.chat["tools"]) == len(body["tools"])
        assert turn.shows_thinking
        assert turn.carries_thinking


@pytest.mark.parametrize("name", RECORDED)
def test_the_messages_of_a_turn_begin_those_of_the_next(name: str) -> None:
    turns = [turn_of(body).chat for body in recorded(name)]
    assert len(turns) > 2
    for before, after in pairwise(turns):
        known = len(before["messages"])
        assert json.dumps(after["messages"][:known]) == json.dumps(before["messages"])
        assert len(after["messages"]) > known
        assert after["tools"] == before["tools"]


@pytest.mark.parametrize("name", RECORDED)
def test_the_billing_line_changes_nothing(name: str) -> None:
    body = recorded(name)[0]
    before = turn_of(body).chat
    assert body["system"][0]["text"].startswith("x-anthropic-billing-header:")
    other = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=9; cch=ffff;"}, *body["system"][1:]]
    assert turn_of({**body, "system": other}).chat == before
    assert turn_of({**body, "system": body["system"][1:]}).chat == before
    within = [{"type": "text", "text": f"{other[0]['text']}\n{body['system'][1]['text']}"}, *body["system"][2:]]
    assert turn_of({**body, "system": within}).chat == before
    assert "billing" not in json.dumps(before)


def test_words_about_the_billing_line_are_words(ask) -> None:
    system = "Never write x-anthropic-billing-header: anywhere."
    assert ask(system=system).chat["messages"][0]["content"] == system


def marked(value: Any, draw: Any) -> Any:
    """The same request with marks for the cache somewhere else; what schemas and inputs hold is the client's own."""
    if isinstance(value, list):
        return [marked(each, draw) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {
        name: each if name in ("input", "input_schema") else marked(each, draw)
        for name, each in value.items()
        if name != "cache_control"
    }
    return {**kept, "cache_control": MARK} if draw(st.booleans()) else kept


@given(st.data())
def test_marks_for_the_cache_may_wander(data: st.DataObject) -> None:
    for name in RECORDED:
        body = recorded(name)[-1]
        assert turn_of(marked(body, data.draw)).chat == turn_of(body).chat
