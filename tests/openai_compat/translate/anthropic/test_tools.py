"""Tools, and the choice among them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai_compat.errors import InvalidRequest
from openai_compat.translate import chat
from openai_compat.translate.anthropic.names import LONGEST, shortened
from schemas.chat import ChatCompletionRequest
from schemas.decode import decode

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}}
LOOK = {"name": "look", "description": "Look.", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
CLIENTS = [
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 100},
    {"type": "computer_20251124", "name": "computer", "display_width_px": 1024, "display_height_px": 768},
    {"type": "memory_20250818", "name": "memory"},
]
SERVERS = [
    SEARCH,
    {"type": "web_fetch_20260318", "name": "web_fetch"},
    {"type": "code_execution_20260521", "name": "code_execution"},
    {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
    {"type": "mcp_toolset", "mcp_server_name": "x"},
    {"type": "computer_toolset_20260801"},
    {"type": "advisor_20260301", "name": "advisor"},
]
LONG = "mcp__" + "x" * 90


def test_a_tool_of_one_s_own_is_a_function(ask) -> None:
    [tool] = ask(tools=[{**LOOK, "type": "custom", "strict": True, "cache_control": {"type": "ephemeral"}}]).chat["tools"]
    assert tool == {
        "type": "function",
        "function": {"name": "look", "description": "Look.", "parameters": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize("tool", CLIENTS, ids=lambda tool: tool["name"])
def test_tools_that_anthropic_defines_and_the_client_runs_get_a_schema(ask, tool: dict[str, Any]) -> None:
    turn = ask(tools=[tool])
    [function] = [each["function"] for each in turn.chat["tools"]]
    assert function["name"] == tool["name"]
    assert function["parameters"]["properties"]
    chat.plan(decode(json.dumps(turn.chat).encode(), ChatCompletionRequest))


def test_tools_of_anthropic_s_servers_are_left_out(ask) -> None:
    turn = ask(tools=[*SERVERS, LOOK], tool_choice={"type": "auto"})
    assert [tool["function"]["name"] for tool in turn.chat["tools"]] == ["look"]
    assert "tools" not in ask(tools=SERVERS, tool_choice={"type": "auto"}).chat


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "look"}, {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
        ({"type": "any", "disable_parallel_tool_use": False}, {"tool_choice": "required"}),
    ],
)
def test_each_choice_has_its_like(ask, choice: Any, fields: dict[str, Any]) -> None:
    asked = ask(tools=[LOOK], tool_choice=choice).chat
    assert {name: asked[name] for name in asked if name in ("tool_choice", "parallel_tool_calls")} == fields


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": SCHEMA}]}, "tools[0].name"),
        ({"tools": [SEARCH, {"type": "bash_20250124"}]}, "tools[1].name"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice.name"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}, "tool_choice.name"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [{**LOOK, "name": "x" * 129}]}, "tools[0].name"),
    ],
)
def test_what_cannot_be_offered_is_refused_by_name(ask, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param


def test_long_names_are_shortened_in_the_same_way_everywhere(ask) -> None:
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": LONG, "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]
    turn = ask(messages=messages, tools=[{**LOOK, "name": LONG}], tool_choice={"type": "tool", "name": LONG})
    short = turn.chat["tools"][0]["function"]["name"]
    assert len(short) == LONGEST
    assert turn.names == {short: LONG}
    assert turn.chat["tool_choice"]["function"]["name"] == short
    assert turn.chat["messages"][1]["tool_calls"][0]["function"]["name"] == short
    chat.plan(decode(json.dumps(turn.chat).encode(), ChatCompletionRequest))


def test_names_that_differ_at_their_ends_stay_different() -> None:
    assert shortened(LONG + "a") != shortened(LONG + "b")
    assert shortened("look") == "look"
