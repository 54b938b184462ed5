"""A request is a chat: its fields, what is refused, what is left out when it does not fit, and how refusals are spelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai_compat.errors import InvalidRequest
from openai_compat.translate import chat
from openai_compat.translate.responses import param_of, read_items, shorter, to_turn
from openai_compat.translate.responses.turn import MAX_MESSAGES
from schemas.chat import ChatCompletionRequest
from schemas.decode import decode
from schemas.responses import CreateResponseRequest, InputTokensRequest

AGENTS = Path(__file__).parents[3] / "compat" / "agents"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
USER = {"role": "user", "content": "Hello"}


def planned(body: dict[str, Any]) -> ChatCompletionRequest:
    request = decode(msgspec.json.encode(body), ChatCompletionRequest)
    chat.plan(request)
    return request


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"max_output_tokens": 5}, {"max_completion_tokens": 5}),
        (
            {"temperature": 0, "top_p": 0.5, "seed": 1, "stop": ["a"]},
            {"temperature": 0.0, "top_p": 0.5, "seed": 1, "stop": ["a"]},
        ),
        ({"reasoning": {"effort": "low", "summary": "auto", "context": "auto"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": None}}, {}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {"response_format": {"type": "text"}}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True, "description": None}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        ),
        (
            {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": SCHEMA}}},
        ),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True, "top_logprobs": 0}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"top_logprobs": 0}, {}),
        ({"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "flex"},) * 2,
        ({"mode": "translate", "mode_options": {"language": "French"}, "chat_template_kwargs": {"enable_thinking": False}},)
        * 2,
        ({"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.5, "logit_bias": {"5": 1.0}},) * 2,
        ({"metadata": {"a": "b"}, "store": False, "include": ["reasoning.encrypted_content"], "max_tool_calls": 1}, {}),
        ({"stream_options": {"include_obfuscation": True}, "truncation": "auto", "client_metadata": {"x": "y"}}, {}),
        ({"parallel_tool_calls": False}, {}),
        (
            {"parallel_tool_calls": None, "tools": None, "tool_choice": None, "text": None, "reasoning": None, "include": None},
            {},
        ),
        ({"background": True, "moderation": {"model": "m"}, "context_management": [{"type": "compaction"}]}, {}),
    ],
)
def test_fields_are_the_chat_s(turned, fields, expected) -> None:
    made = turned(**fields).chat
    assert (made.pop("model"), made.pop("messages")) == ("m", [USER])
    assert json.loads(msgspec.json.encode(made)) == expected
    planned(turned(**fields).chat)


def test_instructions_are_the_first_message_and_of_this_request_alone(turned, asked) -> None:
    turn = turned(instructions="Be brief.")
    assert turn.chat["messages"] == [{"role": "system", "content": "Be brief."}, USER]
    later = to_turn(asked(), read_items([USER, {"role": "assistant", "content": "Hi"}]), read_items("More"))
    assert [message["role"] for message in later.chat["messages"]] == ["user", "assistant", "user"]
    assert later.places == (None, None, "input[0]")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "conversation"),
        ({"background": True, "store": False}, "background"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": 1}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "name": ""}}}, "text.format.name"),
        ({"input": [USER] * (MAX_MESSAGES + 1)}, "input"),
        ({"temperature": 3}, "temperature"),
        ({"reasoning": {"effort": "hard"}}, "reasoning.effort"),
        ({"truncation": "often"}, "truncation"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": 5}, "input"),
        ({"tools": [1]}, "tools"),
        ({"stream": "yes"}, "stream"),
        ({"conversation": 5}, "conversation"),
    ],
)
def test_what_is_wrong_is_named(turned, fields, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        turned(**fields)
    assert (caught.value.param or "").removesuffix("[0]") == param


def test_what_is_nested_too_deeply_for_a_snapshot_is_refused(turned) -> None:
    value: Any = {}
    for _ in range(300):
        value = {"a": value}
    with pytest.raises(InvalidRequest) as caught:
        turned(text={"format": {"type": "text", "deep": value}})
    assert caught.value.param == "text.format"


def test_the_fields_of_counting_make_the_same_chat(asked) -> None:
    body = b'{"model": "m", "input": "Hello", "instructions": "Be brief.", "tools": [{"type": "function", "name": "f"}]}'
    counted, made = (decode(body, kind) for kind in (InputTokensRequest, CreateResponseRequest))
    assert to_turn(counted, [], read_items("Hello")).chat == to_turn(made, [], read_items("Hello")).chat


# ---------------------------------------------------------------- recorded


@pytest.mark.parametrize("name", ["codex_functions", "codex_code_mode"])
def test_what_codex_sends_is_a_chat(name) -> None:
    recorded = json.loads((AGENTS / f"{name}.json").read_text())
    for items in recorded["input"]:
        request = decode(json.dumps({**recorded["body"], "input": items}).encode(), CreateResponseRequest)
        turn = to_turn(request, [], read_items(request.input))
        body = planned(turn.chat)
        assert len(body.tools or ()) > 10
        roles = [message["role"] for message in turn.chat["messages"]]
        assert roles[:2] == ["developer", "developer"]
        assert set(roles[roles.index("user") :]) <= {"user", "assistant", "tool"}
        calls = [call["id"] for message in turn.chat["messages"] for call in message.get("tool_calls", ())]
        assert calls == [message["tool_call_id"] for message in turn.chat["messages"] if message["role"] == "tool"]


def test_what_the_agents_sdk_sends_in_its_second_turn_is_a_chat(turned) -> None:
    items = [
        {"content": "What is the weather in Paris?", "role": "user"},
        {
            "arguments": '{"city":"Paris"}',
            "call_id": "call_1",
            "name": "weather",
            "type": "function_call",
            "id": "fc_1",
            "status": "completed",
        },
        {"call_id": "call_1", "output": "sunny", "type": "function_call_output"},
    ]
    tool = {
        "name": "weather",
        "parameters": {
            "properties": {"city": {"title": "City", "type": "string"}},
            "required": ["city"],
            "title": "weather_args",
            "type": "object",
            "additionalProperties": False,
        },
        "strict": True,
        "type": "function",
        "description": "Get the weather.",
    }
    turn = turned(input=items, tools=[tool], include=[], instructions="Help.", tool_choice="required", store=None)
    planned(turn.chat)
    assert [message["role"] for message in turn.chat["messages"]] == ["system", "user", "assistant", "tool"]


# ---------------------------------------------------------------- what does not fit


def _talk(turns: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [{"role": "developer", "content": "Stay."}]
    for number in range(turns):
        call = {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"}
        output = {"type": "function_call_output", "call_id": f"c{number}", "output": "x" * 50}
        items += [{"role": "user", "content": f"Question {number}"}, call, output, {"role": "assistant", "content": "y" * 50}]
    return [*items, {"role": "user", "content": "Last"}]


def _valid(messages: list[dict[str, Any]]) -> bool:
    """Each output follows its call, and no call is without one."""
    calls = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    return calls == [message["tool_call_id"] for message in messages if message["role"] == "tool"]


def test_the_oldest_messages_go_first_and_calls_with_their_outputs(turned) -> None:
    turn, times = turned(input=_talk(200), instructions="Be brief."), 0
    while (less := shorter(turn)) is not None:
        assert len(less.chat["messages"]) < len(turn.chat["messages"])
        assert len(less.places) == len(less.chat["messages"])
        assert _valid(less.chat["messages"])
        kept = len(less.chat["messages"]) - 2
        assert less.chat["messages"][2:] == turn.chat["messages"][-kept:]
        turn, times = less, times + 1
    assert [message["content"] for message in turn.chat["messages"]] == ["Be brief.", "Stay.", "Last"]
    assert times < 60


def test_of_one_long_turn_the_oldest_calls_go_and_the_question_stays(turned) -> None:
    items = [item for item in _talk(20) if item.get("role") not in ("user", "assistant")]
    turn = turned(input=[items[0], {"role": "user", "content": "The task"}, *items[1:]])
    while (less := shorter(turn)) is not None:
        turn = less
        assert _valid(turn.chat["messages"])
        assert turn.chat["messages"][1]["content"] == "The task"
    assert [message["role"] for message in turn.chat["messages"]] == ["developer", "user", "assistant", "tool"]
    assert turn.chat["messages"][-1]["tool_call_id"] == "c19"


def test_what_is_more_than_a_chat_may_hold_gets_shorter_where_the_client_lets_it(turned) -> None:
    asked = {"input": [USER] * MAX_MESSAGES, "instructions": "Be brief."}
    with pytest.raises(InvalidRequest):
        turned(**asked)
    messages = turned(truncation="auto", **asked).chat["messages"]
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert MAX_MESSAGES * 3 // 4 < len(messages) <= MAX_MESSAGES


def test_what_is_one_question_gets_no_shorter(turned) -> None:
    assert shorter(turned()) is None
    assert shorter(turned(instructions="Be brief.")) is None


def test_other_fields_stay_when_it_gets_shorter(turned) -> None:
    turn = turned(input=_talk(3), temperature=0.5)
    less = shorter(turn)
    assert less is not None
    assert less.chat["temperature"] == 0.5
    assert less.tools == turn.tools


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("param", "spelled"),
    [
        (None, None),
        ("model", "model"),
        ("messages", "input"),
        ("messages[0]", "instructions"),
        ("messages[1].content[0].image_url", "input[0].content[0].image_url"),
        ("messages[3].tool_calls[0]", "input[2].tool_calls[0]"),
        ("messages[9]", "input"),
        ("tools[0].function.parameters", "tools[1].parameters"),
        ("tools[1].function.name", "tools[2].tools[0].name"),
        ("tools[2].function.parameters", "tools[3].format"),
        ("tools[9].function.name", "tools"),
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("reasoning_effort", "reasoning.effort"),
        ("chat_template_kwargs.x", "chat_template_kwargs.x"),
    ],
)
def test_a_refusal_of_the_chat_names_what_the_client_wrote(turned, param, spelled) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:,x"}]},
        {"role": "assistant", "content": "a"},
    ]
    tools = [{"type": "web_search"}, {"type": "function", "name": "f"}]
    tools.append({"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]})
    tools.append({"type": "custom", "name": "c"})
    turn = turned(input=[*items, USER], instructions="Be brief.", tools=tools)
    assert param_of(turn, param) == spelled
