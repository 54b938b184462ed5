"""Which tools a chat offers, and which of them may, must or must not be called."""

from __future__ import annotations

import json

import pytest

from handlers.types import Tool, ToolChoice
from openai_compat.errors import InvalidRequest
from openai_compat.translate import chat
from openai_compat.translate.schema_bounds import MAX_DEPTH

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}


def tool(name: str = "weather", **function) -> dict:
    return {"type": "function", "function": {"name": name, **function}}


def nested(levels: int) -> dict:
    return {"type": "object", "a": nested(levels - 1)} if levels > 1 else {"type": "object"}


def allowed(*names: str, mode: str = "auto") -> dict:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_a_tool_is_what_the_client_wrote(chat_request) -> None:
    request = chat_request(tools=[tool(description="How warm?", parameters=SCHEMA, strict=True), tool("now")])
    first, second = request.tools
    assert (first.name, first.description, first.strict) == ("weather", "How warm?", True)
    assert json.loads(first.parameters) == SCHEMA
    assert list(json.loads(first.parameters)["properties"]) == ["city"]
    assert second == Tool(name="now", parameters='{"type":"object","properties":{}}')
    assert (request.tool_choice, request.parallel_tool_calls) == (None, True)


@pytest.mark.parametrize(
    ("choice", "seen"),
    [
        ("none", ToolChoice(mode="none")),
        ("auto", ToolChoice(mode="auto")),
        ("required", ToolChoice(mode="required")),
        ({"type": "function", "function": {"name": "now"}}, ToolChoice(mode="named", name="now")),
        (None, None),
    ],
)
def test_a_choice_is_none_auto_required_or_a_name(choice, seen, chat_request) -> None:
    request = chat_request(tools=[tool(), tool("now")], tool_choice=choice)
    assert request.tool_choice == seen
    assert [one.name for one in request.tools] == ["weather", "now"]


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_allowed_tools_are_the_only_ones_that_are_shown(mode: str, chat_request) -> None:
    tools = [tool(), tool("now"), tool("mail")]
    request = chat_request(tools=tools, tool_choice=allowed("mail", "weather", mode=mode))
    assert [one.name for one in request.tools] == ["weather", "mail"]
    assert request.tool_choice == ToolChoice(mode=mode)
    short = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [{"type": "function", "name": "now"}]}}
    assert [one.name for one in chat_request(tools=tools, tool_choice=short).tools] == ["now"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "now"}}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [tool()], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tools": [tool()], "tool_choice": allowed()}, "tool_choice.allowed_tools.tools"),
        ({"tools": [tool()], "tool_choice": allowed("now")}, "tool_choice"),
        (
            {"tools": [tool()], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}}},
            "tool_choice.allowed_tools.tools[0]",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [tool(), tool("a b")]}, "tools[1].function.name"),
        ({"tools": [tool("")]}, "tools[0].function.name"),
        ({"tools": [tool("x" * 65)]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name"),
        ({"tools": [tool(parameters={"type": "string"})]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"type": "object", "x": "y" * 65_536})]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters=nested(MAX_DEPTH + 2))]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"allOf": [{}] * 1001})]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"properties": {"a": {"enum": list(range(1001))}}})]}, "tools[0].function.parameters"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(fields: dict, param: str, chat_body, facts) -> None:
    body = chat_body(**fields)
    for check in (chat.plan, lambda body: chat.to_request(body, facts, {})):
        with pytest.raises(InvalidRequest) as caught:
            check(body)
        assert caught.value.param == param


def test_a_strict_schema_that_cannot_be_enforced_is_refused_and_a_loose_one_is_not(chat_body) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    assert chat.plan(chat_body(tools=[tool(parameters=schema)])) == ("generate_text", "generate_image")
    with pytest.raises(InvalidRequest) as caught:
        chat.plan(chat_body(tools=[tool(parameters=schema, strict=True)]))
    assert caught.value.param.startswith("tools[0].function.parameters")
    assert "uniqueItems" in caught.value.message


def test_schemas_within_the_bounds_are_taken(chat_request) -> None:
    schemas = [nested(MAX_DEPTH), {"properties": {"a": {"enum": list(range(1000))}}}, {"allOf": [{}] * 998}, {}, None]
    tools = [tool(f"t{number}", parameters=schema) for number, schema in enumerate(schemas)]
    assert len(chat_request(tools=tools).tools) == len(schemas)


def test_128_tools_are_taken_and_no_more(chat_request) -> None:
    tools = [tool(f"t{number}") for number in range(129)]
    assert len(chat_request(tools=tools[:128]).tools) == 128
    with pytest.raises(InvalidRequest) as caught:
        chat_request(tools=tools)
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("choice", "said", "seen"),
    [
        ("auto", None, True),
        (None, None, True),
        ("auto", False, False),
        ("required", None, False),
        ("required", True, True),
        ({"type": "function", "function": {"name": "weather"}}, None, False),
    ],
)
def test_several_calls_are_allowed_unless_one_is_forced(choice, said, seen, chat_request) -> None:
    assert chat_request(tools=[tool()], tool_choice=choice, parallel_tool_calls=said).parallel_tool_calls == seen


def test_tools_as_langchain_and_llamaindex_bind_them(chat_request) -> None:
    strict = tool(description="d", parameters=SCHEMA, strict=True)
    request = chat_request(tools=[strict], tool_choice="auto", parallel_tool_calls=False, stream=True, n=1)
    assert (request.tools[0].strict, request.parallel_tool_calls) == (True, False)
    assert chat_request(tools=[strict], parallel_tool_calls=None).parallel_tool_calls
