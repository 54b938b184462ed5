"""Calls that have to be made are valid, whatever the model would have liked to say."""

from __future__ import annotations

import json

import pytest
from jsonschema import validate

from handlers import deferred
from handlers import types as t
from handlers.tool_grammar import MAX_CALLS, tool_call_grammar
from openai_compat.errors import InvalidRequest

WEATHER = {"properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"], "additionalProperties": False}
ADD = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/digit"}, "b": {"$ref": "#/$defs/digit"}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"digit": {"type": "integer", "minimum": 0, "maximum": 9}},
}
SCHEMAS = {"get_weather": WEATHER, 'odd"name': ADD}
TOOLS = [(name, json.dumps(schema)) for name, schema in SCHEMAS.items()]


def write(handler, spec: t.GrammarSpec, ctx, seed: int) -> t.TextChoice:
    request = t.TextRequest(prompts=("Go",), grammar=spec, sampling=t.Sampling(temperature=1.0, max_tokens=80, seed=seed))
    return deferred.complete(handler.generate_text(request, ctx)).choices[0]


def finished(handler, spec: t.GrammarSpec, collector) -> list[object]:
    choices = [write(handler, spec, collector(), seed) for seed in range(5)]
    found = [json.loads(choice.text) for choice in choices if choice.finish_reason == "stop"]
    assert found
    return found


def test_one_call_is_an_object_with_a_name_and_arguments_that_keep_to_the_tools_schema(tiny, collector) -> None:
    for call in finished(tiny, tool_call_grammar(TOOLS, None, False), collector):
        assert list(call) == ["name", "arguments"]
        validate(call["arguments"], SCHEMAS[call["name"]])


def test_a_named_tool_is_the_only_one_that_can_be_called(tiny, collector) -> None:
    calls = finished(tiny, tool_call_grammar(TOOLS, "get_weather", False), collector)
    assert {call["name"] for call in calls} == {"get_weather"}


def test_several_calls_are_a_list_of_at_least_one(tiny, collector) -> None:
    for calls in finished(tiny, tool_call_grammar(TOOLS, "get_weather", True), collector):
        assert 1 <= len(calls) <= MAX_CALLS
        assert all(call["name"] == "get_weather" for call in calls)


def test_a_schema_without_a_type_still_means_an_object(tiny, collector) -> None:
    for call in finished(tiny, tool_call_grammar([("f", '{"maxProperties": 1}')], None, False), collector):
        assert isinstance(call["arguments"], dict)


def test_a_schema_that_cannot_be_enforced_is_refused_by_name(tiny, collector) -> None:
    spec = tool_call_grammar([("f", '{"type": "object", "not": {}}')], None, False)
    with pytest.raises(InvalidRequest) as caught:
        write(tiny, spec, collector(), 0)
    assert caught.value.param == "tools"
    assert "'not'" in caught.value.message
