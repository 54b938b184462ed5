"""Tools of a response are functions of a chat, and each name finds its way back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest
from openai_compat.translate import chat
from openai_compat.translate.responses.tools import MOST, Called, flat_name, toolbox_of
from schemas.chat import ChatCompletionRequest
from schemas.decode import decode

LOOK: dict[str, Any] = {"type": "function", "name": "look"}
PATCH: dict[str, Any] = {"type": "custom", "name": "patch"}
BUILT_IN = [
    {"type": "web_search"},
    {"type": "web_search_preview", "search_context_size": "low"},
    {"type": "file_search", "vector_store_ids": ["vs"]},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "s", "server_url": "https://example.com"},
    {"type": "computer_use_preview"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "tool_search"},
    {"type": "of_tomorrow"},
]


def space(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "", "tools": list(tools)}


def test_a_function_s_keys_stand_in_the_function(turned) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = [{**LOOK, "description": "Looks", "parameters": schema, "strict": True, "defer_loading": True}]
    assert turned(tools=tools).chat["tools"] == [
        {"type": "function", "function": {"name": "look", "description": "Looks", "parameters": schema, "strict": True}}
    ]
    assert turned(tools=[{**LOOK, "parameters": None, "strict": None, "description": None}]).chat["tools"] == [
        {"type": "function", "function": {"name": "look"}}
    ]


def test_a_chat_s_own_way_to_write_a_function_is_read_too(turned) -> None:
    nested = {"type": "function", "function": {"name": "look", "strict": True}}
    assert turned(tools=[{**nested, "name": "look"}]).chat["tools"] == [nested]
    assert turned(tools=[nested]).chat["tools"] == [nested]


def test_a_custom_tool_is_a_function_with_one_text(turned) -> None:
    (tool,) = turned(tools=[{**PATCH, "description": "Patches"}]).chat["tools"]
    assert tool["function"]["description"] == "Patches"
    assert tool["function"]["parameters"]["required"] == ["input"]
    assert tool["function"]["strict"] is True


@pytest.mark.parametrize("syntax", ["lark", "regex"])
def test_a_custom_tool_s_grammar_is_told_to_the_model(turned, syntax) -> None:
    form = {"type": "grammar", "syntax": syntax, "definition": "[a-z]+|b"}
    (tool,) = turned(tools=[{**PATCH, "format": form}]).chat["tools"]
    assert tool["function"]["description"].endswith(":\n[a-z]+|b")
    pattern = tool["function"]["parameters"]["properties"]["input"].get("pattern")
    assert pattern == ("^(?:[a-z]+|b)$" if syntax == "regex" else None)


def test_tools_of_a_namespace_have_its_name_before_theirs(turned) -> None:
    turn = turned(tools=[space("files", LOOK, PATCH), space("mcp__git__", LOOK), LOOK])
    assert [tool["function"]["name"] for tool in turn.chat["tools"]] == [
        "files__look",
        "files__patch",
        "mcp__git__look",
        "look",
    ]
    assert turn.tools.what_is("files__patch") == Called(name="patch", namespace="files", kind="custom")
    assert turn.tools.what_is("look") == Called(name="look")


@given(
    pairs=st.lists(
        st.tuples(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80)), min_size=1, max_size=5, unique=True
    )
)
def test_names_are_short_and_plain_whatever_they_were(pairs) -> None:
    for namespace, name in pairs:
        flat = flat_name(name, namespace)
        assert flat == flat_name(name, namespace)
        assert len(flat) <= 64
        assert chat.plan(_chat_with(flat))


def _chat_with(name: str) -> ChatCompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    return decode(
        msgspec.json.encode({**body, "tools": [{"type": "function", "function": {"name": name}}]}), ChatCompletionRequest
    )


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = {flat_name("x" * 70 + end, "space") for end in "abc"}
    assert len(names) == 3


@pytest.mark.parametrize("tool", BUILT_IN, ids=lambda tool: tool["type"])
def test_tools_that_only_other_servers_have_are_left_out(turned, tool) -> None:
    assert "tools" not in turned(tools=[tool]).chat
    assert [made["function"]["name"] for made in turned(tools=[tool, LOOK]).chat["tools"]] == ["look"]
    assert "tool_choice" not in turned(tools=[tool], tool_choice="required").chat
    assert "tool_choice" not in turned(tools=[tool, LOOK], tool_choice={"type": tool["type"]}).chat


def test_tools_that_items_bring_along_are_offered(turned) -> None:
    items = [
        {"type": "additional_tools", "role": "developer", "tools": [space("f", PATCH), LOOK]},
        {"role": "user", "content": "a"},
    ]
    newer = {**LOOK, "description": "newer"}
    turn = turned(input=items, tools=[newer])
    assert [tool["function"]["name"] for tool in turn.chat["tools"]] == ["f__patch", "look"]
    assert turn.chat["tools"][1]["function"]["description"] == "newer"
    assert turn.tools.places == ("input[0].tools[0].tools[0]", "tools[0]")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", None),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "look"}, {"type": "function", "function": {"name": "look"}}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "function", "function": {"name": "look"}}),
        ({"type": "custom", "name": "patch"}, {"type": "function", "function": {"name": "patch"}}),
        ({"type": "function", "name": "list"}, {"type": "function", "function": {"name": "files__list"}}),
        ({"type": "function", "name": "list", "namespace": "files"}, {"type": "function", "function": {"name": "files__list"}}),
        ({"type": "mcp", "server_label": "s"}, None),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}, "none"),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "patch"}, {"type": "mcp"}]},
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "patch"}]}},
        ),
    ],
)
def test_a_choice_is_the_chat_s_choice(turned, choice, expected) -> None:
    turn = turned(tools=[LOOK, PATCH, space("files", {**LOOK, "name": "list"})], tool_choice=choice)
    assert turn.chat.get("tool_choice") == expected
    chat.plan(decode(msgspec.json.encode(turn.chat), ChatCompletionRequest))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [LOOK, {"type": "function", "name": "a b"}]}, "tools[1].name"),
        ({"tools": [LOOK, {"type": "custom", "name": "x" * 65}]}, "tools[1].name"),
        ({"tools": [LOOK, PATCH, {**PATCH, "name": "look"}]}, "tools[2].name"),
        ({"tools": [space("f", LOOK, LOOK)]}, "tools[0].tools[1].name"),
        ({"tools": [{"type": "namespace", "tools": []}]}, "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "f", "tools": 1}]}, "tools[0].tools"),
        ({"tools": [{**PATCH, "format": 1}]}, "tools[0].format"),
        ({"tools": [{**PATCH, "format": {"type": "grammar"}}]}, "tools[0].format.syntax"),
        ({"tools": [{**PATCH, "format": {"type": "grammar", "syntax": "lark"}}]}, "tools[0].format.definition"),
        ({"tools": [{**PATCH, "description": 1}]}, "tools[0].description"),
        ({"tools": [{**LOOK, "name": f"f{n}"} for n in range(MOST + 1)]}, "tools"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tools": [LOOK], "tool_choice": {}}, "tool_choice.type"),
        ({"tools": [LOOK], "tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice.tools"),
        ({"tools": [LOOK], "tool_choice": {"type": "allowed_tools", "mode": "x", "tools": []}}, "tool_choice.mode"),
        ({"tools": [LOOK], "tool_choice": {"type": "allowed_tools", "tools": [{"name": "no"}]}}, "tool_choice.tools[0]"),
        ({"input": [{"type": "additional_tools", "tools": 1}, {"role": "user", "content": "a"}]}, "input[0].tools"),
        ({"input": [{"role": "user", "content": "a"}, {"type": "additional_tools", "tools": [{}]}]}, "input[1].tools[0].type"),
    ],
)
def test_what_is_wrong_with_tools_is_named(turned, fields, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        turned(**fields)
    assert caught.value.param == param


def test_a_tool_that_is_nested_too_deeply_is_refused_though_it_is_left_out() -> None:
    """It is said again in each snapshot, and writing it would fail."""
    value: Any = {}
    for _ in range(300):
        value = {"a": value}
    with pytest.raises(InvalidRequest):
        toolbox_of([{"type": "of_tomorrow", "deep": value}])
