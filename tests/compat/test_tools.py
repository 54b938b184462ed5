"""Tools and reasoning through the openai packages: every dialect from a scripted model, forced calls from the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pydantic
import pytest

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 40}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
NOW: Any = {"type": "function", "function": {"name": "now"}}
PARIS = {"city": "Paris {é}", "unit": "celsius"}
DIALECTS = {
    "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris {é}", "unit": "celsius"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "llama3_json": '{"name": "get_weather", "parameters": {"city": "Paris {é}", "unit": "celsius"}}; '
    '{"name": "now", "parameters": {}}',
    "pythonic": "[get_weather(city='Paris {é}', unit=\"celsius\"), now()]",
    "mistral": '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris {é}", "unit": "celsius"}}, '
    '{"name": "now", "arguments": {}}]',
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
    '{"city": "Paris {é}", "unit": "celsius"}<｜tool▁call▁end｜>'
    "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "json": '```json\n[{"name": "get_weather", "arguments": {"city": "Paris {é}", "unit": "celsius"}}, '
    '{"name": "now", "arguments": {}}]\n```',
}


class GetWeather(pydantic.BaseModel):
    """The weather in a city."""

    city: str
    unit: str


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def calls_of(message: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]


def streamed(client: openai.OpenAI, **fields: Any) -> tuple[Any, list[Any]]:
    """The completion as the SDK puts it together, and the tool deltas as they came."""
    with client.chat.completions.stream(**fields) as stream:
        deltas = [
            call
            for event in stream
            if event.type == "chunk"
            for choice in event.chunk.choices
            for call in choice.delta.tool_calls or ()
        ]
        return stream.get_final_completion(), deltas


@pytest.mark.parametrize("dialect", DIALECTS)
def test_calls_of_each_dialect_arrive_whole_and_streamed(client: openai.OpenAI, dialect: str) -> None:
    fields: Any = {
        "model": "echo",
        "messages": asked(f"[[tool_parser={dialect}]]{DIALECTS[dialect]}"),
        "tools": [WEATHER, NOW],
        "parallel_tool_calls": True,
    }
    whole = client.chat.completions.create(**fields).choices[0]
    final, deltas = streamed(client, **fields)
    for choice in (whole, final.choices[0]):
        assert calls_of(choice.message) == [("get_weather", PARIS), ("now", {})]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        assert len({call.id for call in choice.message.tool_calls}) == 2
    assert [delta.index for delta in deltas] == sorted(delta.index for delta in deltas)
    firsts = [delta for delta in deltas if delta.id]
    assert [(delta.index, delta.type, delta.function.name, delta.function.arguments) for delta in firsts] == [
        (0, "function", "get_weather", ""),
        (1, "function", "now", ""),
    ]
    assert all(delta.type is None and delta.function.name is None for delta in deltas if not delta.id)


def test_words_before_a_call_are_content_and_choices_do_not_mix(client: openai.OpenAI) -> None:
    text = f"Let me see. {DIALECTS['hermes']}"
    final, _ = streamed(client, model="echo", messages=asked(text), tools=[WEATHER, NOW], n=2)
    for choice in final.choices:
        assert choice.message.content == "Let me see. "
        assert calls_of(choice.message) == [("get_weather", PARIS), ("now", {})]
    assert len({call.id for choice in final.choices for call in choice.message.tool_calls}) == 4


def test_one_call_at_a_time_where_the_client_wants_it_so(client: openai.OpenAI) -> None:
    fields: Any = {
        "model": "echo",
        "messages": asked(DIALECTS["hermes"]),
        "tools": [WEATHER, NOW],
        "parallel_tool_calls": False,
    }
    answer = client.chat.completions.create(**fields)
    assert calls_of(answer.choices[0].message) == [("get_weather", PARIS)]


def test_without_tools_or_with_none_to_be_called_the_text_stays_text(client: openai.OpenAI) -> None:
    for fields in ({}, {"tools": [WEATHER, NOW], "tool_choice": "none"}, {"tools": [WEATHER], "tool_choice": "auto"}):
        message = client.chat.completions.create(model="echo", messages=asked("<tool_call>{}"), **fields).choices[0]
        assert (message.message.content, message.finish_reason) == ("<tool_call>{}", "stop")


def test_reasoning_arrives_under_both_names_and_is_counted(client: openai.OpenAI) -> None:
    text = "[[reasoning_parser=think]]<think>\nWell, Paris.\n</think>\n\nParis."
    answer = client.chat.completions.create(model="echo", messages=asked(text))
    message: Any = answer.choices[0].message
    assert (message.content, message.reasoning_content, message.reasoning) == ("Paris.", "Well, Paris.", "Well, Paris.")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4
    chunks = list(client.chat.completions.create(model="echo", messages=asked(text), stream=True))
    deltas: list[Any] = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Well, Paris."
    assert "".join(delta.content or "" for delta in deltas) == "Paris."


def test_the_sdk_s_own_pydantic_tools_are_parsed(client: openai.OpenAI) -> None:
    text = '<tool_call>{"name": "GetWeather", "arguments": {"city": "Rome", "unit": "celsius"}}</tool_call>'
    answer = client.chat.completions.parse(
        model="echo", messages=asked(text), tools=[openai.pydantic_function_tool(GetWeather)], parallel_tool_calls=False
    )
    [call] = answer.choices[0].message.tool_calls or ()
    assert call.function.parsed_arguments == GetWeather(city="Rome", unit="celsius")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_model_without_a_template_for_tools_makes_valid_forced_calls(client: openai.OpenAI, model: str, choice: Any) -> None:
    fields: Any = {
        "model": model,
        "messages": asked("What is the weather in Paris, in celsius?"),
        "tools": [WEATHER, NOW],
        "tool_choice": choice,
        "temperature": 0,
        "max_tokens": 80,
    }
    whole = client.chat.completions.create(**fields).choices[0]
    final, deltas = streamed(client, **fields)
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    [(name, arguments)] = calls_of(whole.message)
    assert calls_of(final.choices[0].message) == [(name, arguments)]
    assert len(deltas) > 2
    if name == "get_weather":
        assert set(arguments) == {"city", "unit"}
        assert arguments["unit"] in ("celsius", "fahrenheit")
    else:
        assert choice == "required"


def test_a_call_that_is_cut_off_says_length(client: openai.OpenAI, model: str) -> None:
    fields: Any = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 12, "temperature": 0}
    answer = client.chat.completions.create(model=model, messages=asked("Weather in Paris?"), **fields)
    assert answer.choices[0].finish_reason == "length"


def test_a_whole_round_of_calls_and_results_is_understood(client: openai.OpenAI, model: str) -> None:
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages: list[Any] = [
        *asked("What is the weather in Paris?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"weather": "sunny", "degrees": 21}'},
    ]
    answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], max_tokens=40, temperature=0)
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [WEATHER], "extra_body": {"mode": "complete"}}, "tools"),
    ],
)
def test_tools_that_cannot_be_served_are_refused_by_name(client: openai.OpenAI, model: str, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=asked("Hi"), **fields)
    assert caught.value.param == param


def test_the_node_package_sees_the_same_calls(node: Callable[..., dict[str, Any]]) -> None:
    seen = node("tools", "echo")
    assert seen["whole"] == seen["streamed"]
    assert [(call["name"], json.loads(call["arguments"])) for call in seen["whole"]] == [("get_weather", PARIS), ("now", {})]
    assert seen["finish"] == ["tool_calls", "tool_calls"]


def test_a_format_beside_tools_is_kept_where_nothing_is_called(client: openai.OpenAI, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    clock: Any = {
        "type": "function",
        "function": {"name": "now", "parameters": {"type": "object", "additionalProperties": False}},
    }
    fields: Any = {"tools": [clock], "response_format": wanted, "temperature": 0, "max_tokens": 60}
    choice = client.chat.completions.create(model=model, messages=asked("What is the capital of France?"), **fields).choices[0]
    if choice.message.tool_calls:
        assert {(name, str(arguments)) for name, arguments in calls_of(choice.message)} == {("now", "{}")}
    else:
        assert json.loads(choice.message.content or "")["city"] in ("Paris", "Rome")


def test_a_strict_tool_leaves_words_free_and_holds_calls_to_its_schema(client: openai.OpenAI, model: str) -> None:
    text = (
        'Repeat exactly: <tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "unit": "kelvin"}}\n</tool_call>'
    )
    fields: Any = {"tools": [WEATHER], "temperature": 0, "max_tokens": 100, "seed": 1}
    choice = client.chat.completions.create(model=model, messages=asked(text), **fields).choices[0]
    for _, arguments in calls_of(choice.message) if choice.finish_reason == "tool_calls" else ():
        assert set(arguments) == {"city", "unit"}
        assert arguments["unit"] in ("celsius", "fahrenheit")
    assert choice.message.content or choice.message.tool_calls
