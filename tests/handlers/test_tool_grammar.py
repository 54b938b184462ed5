from __future__ import annotations

import json

import pytest

from handlers import types as t
from handlers.tool_grammar import grammar_for

SCHEMA = '{"type":"object","properties":{"a":{"type":"integer"}}}'
STRICT, LOOSE = t.Tool(name="f", parameters=SCHEMA, strict=True), t.Tool(name="g", parameters=SCHEMA)
FORMAT = t.GrammarSpec(kind="json_object")


def wanted(
    *tools: t.Tool, mode: str | None = "auto", name: str | None = None, marks: bool = True, **fields
) -> t.GrammarSpec | None:
    choice = None if mode is None else t.ToolChoice(mode=mode, name=name)
    return grammar_for(t.TextRequest(messages=(), tools=tools, tool_choice=choice, **fields), marks=marks)


def test_a_call_that_has_to_be_made_is_one_of_the_tools_that_may_be_called() -> None:
    required, named = wanted(STRICT, LOOSE, mode="required"), wanted(STRICT, LOOSE, mode="named", name="g", grammar=FORMAT)
    assert (required.kind, named.kind) == ("tool_calls", "tool_calls")
    assert [name for name, _ in json.loads(required.source)["tools"]] == ["f", "g"]
    assert [name for name, _ in json.loads(named.source)["tools"]] == ["g"]


@pytest.mark.parametrize("mode", [None, "auto"])
def test_a_strict_tool_holds_what_is_marked_to_its_schema_and_leaves_the_others_free(mode: str | None) -> None:
    spec = wanted(STRICT, LOOSE, mode=mode, parallel_tool_calls=False)
    assert spec.kind == "marked_calls"
    assert json.loads(spec.source) == {"tools": [["f", json.loads(SCHEMA)], ["g", {}]], "parallel": False}


def test_without_a_strict_tool_or_marks_that_a_grammar_knows_the_model_writes_as_it_likes() -> None:
    assert wanted(LOOSE) is None
    assert wanted(STRICT, marks=False) is None
    assert wanted(STRICT, mode="none") is None
    assert wanted() is None


def test_a_format_beside_tools_leaves_room_for_calls() -> None:
    spec = wanted(LOOSE, grammar=FORMAT)
    assert (spec.kind, spec.param) == ("calls_or", "response_format")
    assert json.loads(spec.source)["kind"] == "json_object"
    assert wanted(LOOSE, mode="none", grammar=FORMAT) == FORMAT
