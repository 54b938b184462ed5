"""Objects whose properties are listed have no others, and nothing else of a schema changes its meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLMatcher

from handlers.decoding.closed_objects import closed
from handlers.decoding.grammar_library import Tokens, compiled, of_calls, of_json_schema, problem, tokenizer

BYTES = Tokens(texts=(*(bytes([byte]) for byte in range(256)), b"<end>"), special=(256,), ends=(256,))
INT = {"type": "integer"}
LISTED = {"type": "object", "properties": {"a": INT}, "required": ["a"]}
CLOSED = {**LISTED, "additionalProperties": False}


def allows(grammar: str, text: str) -> bool:
    matcher: LLMatcher = compiled(tokenizer(BYTES), grammar)
    assert not problem(matcher)
    taken = matcher.try_consume_tokens(list(text.encode()))
    return taken == len(text.encode()) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (LISTED, CLOSED),
        ({"properties": {}}, {"properties": {}, "additionalProperties": False}),
        ({"properties": {"a": LISTED}}, {"properties": {"a": CLOSED}, "additionalProperties": False}),
        ({"type": "array", "items": LISTED}, {"type": "array", "items": CLOSED}),
        ({"items": [LISTED, INT]}, {"items": [CLOSED, INT]}),
        ({"anyOf": [LISTED, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"additionalProperties": LISTED}, {"additionalProperties": CLOSED}),
        ({"$ref": "#/$defs/x", "$defs": {"x": LISTED}}, {"$ref": "#/$defs/x", "$defs": {"x": CLOSED}}),
    ],
)
def test_what_lists_its_properties_is_closed_wherever_it_stands(schema: Any, expected: Any) -> None:
    assert closed(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        True,
        INT,
        {"type": "object"},
        {"type": "object", "required": ["a"]},
        {**LISTED, "required": ["a", "b"]},
        {**LISTED, "required": "a"},
        {**LISTED, "additionalProperties": True},
        {**LISTED, "additionalProperties": INT},
        {**LISTED, "patternProperties": {"^x": INT}},
        {**LISTED, "minProperties": 2},
        {"properties": "no map"},
        {"const": LISTED},
        {"enum": [LISTED]},
        {"allOf": [LISTED, {"properties": {"b": INT}}]},
        {**LISTED, "anyOf": [{"properties": {"b": INT}, "required": ["b"]}]},
        {**LISTED, "$ref": "#/$defs/x", "$defs": {"x": LISTED}},
        {"anyOf": [LISTED, {"allOf": [INT]}]},
    ],
)
def test_what_says_otherwise_or_is_put_together_of_parts_stays_as_it_is(schema: Any) -> None:
    assert closed(schema) == schema


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = {"properties": {"properties": INT, "const": LISTED}}
    assert closed(schema) == {"properties": {"properties": INT, "const": CLOSED}, "additionalProperties": False}


def test_an_answer_has_no_other_properties() -> None:
    grammar = of_json_schema('{"type": "object", "properties": {"a": {"type": "integer"}}}')
    assert allows(grammar, '{"a": 1}')
    assert allows(grammar, "{}")
    assert not allows(grammar, '{"a": 1, "b": 1}')


def test_a_tool_without_arguments_is_called_with_none() -> None:
    grammar = of_calls([("now", {"properties": {}}), ("any", {"type": "object"})], 1)
    assert allows(grammar, '{"name": "now", "arguments": {}}')
    assert not allows(grammar, '{"name": "now", "arguments": {"x": 1}}')
    assert allows(grammar, '{"name": "any", "arguments": {"x": 1}}')


def test_parts_that_belong_together_can_still_be_satisfied() -> None:
    parts = [{"type": "object", "properties": {name: INT}, "required": [name]} for name in "ab"]
    assert allows(of_json_schema(json.dumps({"allOf": parts})), '{"a": 1, "b": 2}')
