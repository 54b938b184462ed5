"""Which texts the grammars of calls allow, over a vocabulary of single bytes."""

from __future__ import annotations

import json

import pytest

from handlers.decoding import grammar_library as library
from handlers.decoding.grammar_calls import of_calls_or, of_marked_calls

SCHEMA = {"properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
TOOLS = [("weather", SCHEMA), ("a.b-c_1", {})]
END = 256
ROME = '{"name": "weather", "arguments": {"city": "Rome <tool_call>"}}'
NONE = '{"name": "a.b-c_1", "arguments": {}}'


def marked(call: str) -> str:
    return f"<tool_call>\n{call}\n</tool_call>"


def allows(grammar: str, text: str) -> bool:
    """Whether ``text`` may be a whole answer."""
    vocabulary = (*(bytes([byte]) for byte in range(256)), b"<end>")
    tokenizer = library.tokenizer(library.Tokens(vocabulary, (END,), (END,)))
    matcher = library.compiled(tokenizer, grammar)
    assert library.problem(matcher) == ""
    ids = list(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("text", "parallel", "single"),
    [
        ("", True, True),
        ("Hello <b>, a <tool_cal> and é🎈\n", True, True),
        (marked(ROME), True, True),
        (f"Let me see.\n{marked(NONE)}", True, True),
        (f"{marked(ROME)}\n{marked(NONE)} done", True, False),
        (marked('{"name": "weather", "arguments": {"town": "Rome"}}'), False, False),
        (marked('{"name": "weather", "arguments": {}}'), False, False),
        (marked('{"name": "aXb-c_1", "arguments": {}}'), False, False),
        (marked('{"name": "rm", "arguments": {}}'), False, False),
        ("I would use <tool_call> here", False, False),
        (f"<tool_call>\n{ROME}", False, False),
    ],
)
def test_whatever_is_marked_is_a_call(text: str, parallel: bool, single: bool) -> None:
    assert allows(of_marked_calls(TOOLS, parallel=True), text) == parallel
    assert allows(of_marked_calls(TOOLS, parallel=False), text) == single


FORMATS = {
    "json_object": ("", '{"a": 1}'),
    "json_schema": ('{"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]}', '{"b": true}'),
    "choice": ('["yes", "no"]', "no"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_beside_a_format_the_answer_is_a_call_or_keeps_to_it(kind: str) -> None:
    source, example = FORMATS[kind]
    one, several = of_calls_or(TOOLS, 1, kind, source), of_calls_or(TOOLS, 3, kind, source)
    for grammar in (one, several):
        assert allows(grammar, example)
        assert allows(grammar, ROME)
        assert not allows(grammar, "words")
    assert allows(several, f"[{ROME}, {NONE}]")
    assert not allows(one, f"[{ROME}, {NONE}]")


def test_a_grammar_of_the_client_s_own_does_not_go_together_with_tools() -> None:
    with pytest.raises(ValueError, match="together with tools"):
        of_calls_or(TOOLS, 1, "grammar", json.dumps("start: /x/"))


def test_references_within_schemas_are_kept() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "additionalProperties": False}
    schema = {"$defs": {"node": node}, "properties": {"list": {"$ref": "#/$defs/node"}}, "additionalProperties": False}
    grammar = of_calls_or([("f", schema)], 1, "json_schema", json.dumps({**schema, "type": "object"}))
    assert allows(grammar, '{"name": "f", "arguments": {"list": {"next": {"next": {}}}}}')
    assert not allows(grammar, '{"name": "f", "arguments": {"list": {"next": {"other": {}}}}}')
    assert allows(grammar, '{"list": {"next": {}}}')
    assert not allows(grammar, '{"list": {"other": {}}}')
