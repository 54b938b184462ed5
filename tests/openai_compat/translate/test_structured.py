"""What an answer must look like: one grammar, or a 400 that names the field."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.types import GrammarSpec
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate import chat, completions
from openai_compat.translate.schema_keywords import SUPPORTED, check_keywords

OBJECT = {"type": "object"}
TEXT = '{"type":"object"}'


def wire_schema(schema, **more):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}}


ASKED = {
    "text": ({"response_format": {"type": "text"}}, None),
    "nothing": ({}, None),
    "an object": ({"response_format": {"type": "json_object"}}, GrammarSpec(kind="json_object")),
    "a strict schema": (wire_schema(OBJECT, strict=True), GrammarSpec(kind="json_schema", source=TEXT)),
    "a schema": (wire_schema(OBJECT, strict=False, description="d"), GrammarSpec(kind="json_schema", source=TEXT)),
    "no schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, GrammarSpec(kind="json_object")),
    "text and a regex": (
        {"response_format": {"type": "text"}, "guided_regex": "a"},
        GrammarSpec(kind="regex", source="a", param="guided_regex"),
    ),
    "guided_json": ({"guided_json": OBJECT}, GrammarSpec(kind="json_schema", source=TEXT, param="guided_json")),
    "guided_json as text": (
        {"guided_json": json.dumps(OBJECT)},
        GrammarSpec(kind="json_schema", source=TEXT, param="guided_json"),
    ),
    "guided_choice": ({"guided_choice": ["é", "b"]}, GrammarSpec(kind="choice", source='["é","b"]', param="guided_choice")),
    "guided_grammar": (
        {"guided_grammar": 'root ::= "a"'},
        GrammarSpec(kind="grammar", source='root ::= "a"', param="guided_grammar"),
    ),
    "outputs: json": (
        {"structured_outputs": {"json": OBJECT}},
        GrammarSpec(kind="json_schema", source=TEXT, param="structured_outputs.json"),
    ),
    "outputs: regex": (
        {"structured_outputs": {"regex": "a"}},
        GrammarSpec(kind="regex", source="a", param="structured_outputs.regex"),
    ),
    "outputs: choice": (
        {"structured_outputs": {"choice": ["a"]}},
        GrammarSpec(kind="choice", source='["a"]', param="structured_outputs.choice"),
    ),
    "outputs: grammar": (
        {"structured_outputs": {"grammar": 'start: "a"'}},
        GrammarSpec(kind="grammar", source='start: "a"', param="structured_outputs.grammar"),
    ),
    "outputs: any object": (
        {"structured_outputs": {"json_object": True}},
        GrammarSpec(kind="json_object", param="structured_outputs.json_object"),
    ),
    "outputs: nothing": ({"structured_outputs": {"disable_any_whitespace": False}}, None),
}


@pytest.mark.parametrize("name", ASKED)
def test_each_way_of_asking_becomes_one_grammar(name, chat_request, completion_request):
    fields, grammar = ASKED[name]
    assert chat_request(**fields).grammar == grammar
    assert completion_request(**fields).grammar == grammar


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED = {
    "format and regex": ({**wire_schema(OBJECT), "guided_regex": "a"}, "guided_regex", "together"),
    "two of theirs": ({"structured_outputs": {"json": OBJECT, "regex": "a"}}, "structured_outputs.regex", "together"),
    "choice beside outputs": (
        {"guided_choice": ["a"], "structured_outputs": {"choice": ["a"]}},
        "structured_outputs.choice",
        "together",
    ),
    "no schema object": ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
    "text that is no JSON": ({"guided_json": "{"}, "guided_json", "no JSON"),
    "text that is no schema": ({"guided_json": "[1]"}, "guided_json", "a schema is expected"),
    "no choice": ({"guided_choice": []}, "guided_choice", "no choice"),
    "too many bytes": (wire_schema({"description": "x" * 70_000}), "response_format", "bytes"),
    "too deep": (wire_schema(nested(40)), "response_format", "deep"),
    "too many nodes": (wire_schema({"anyOf": [OBJECT] * 1001}), "response_format", "1000"),
    "too many values": (wire_schema({"enum": list(range(1001))}), "response_format", "enum"),
    "a long pattern": (wire_schema({"pattern": "a" * 1025}), "response_format", "'pattern' at '#'"),
    "a long name pattern": (wire_schema({"patternProperties": {"a" * 1025: OBJECT}}), "response_format", "'patternProperties'"),
    "a long regex": ({"guided_regex": "é" * 600}, "guided_regex", "1024"),
    "long choices": ({"guided_choice": ["x" * 4000] * 20}, "guided_choice", "65536"),
    "a long grammar": ({"guided_grammar": 'start: "' + "é" * 40_000 + '"'}, "guided_grammar", "65536"),
    "a switch of the library": ({"guided_grammar": '%llguidance {}\nstart: "a"'}, "guided_grammar", "%llguidance"),
    "a schema inside a grammar": ({"guided_grammar": "start: %json {}"}, "guided_grammar", "%json"),
    "a large multiple": (wire_schema({"multipleOf": 999_983}), "response_format", "'multipleOf'"),
    "a reference to elsewhere": (wire_schema({"$ref": "https://x.org/s"}), "response_format", "'$ref'"),
    "a control character": (wire_schema({"const": {"a": ["\x01"]}}), "response_format", "'const'"),
    "too many properties needed": (wire_schema({"required": ["a"], "minProperties": 3}), "response_format", "'minProperties'"),
    "a switch inside a schema": (wire_schema({"x-guidance": {}}), "response_format", "'x-guidance' at '#'"),
    "a misspelt keyword": (wire_schema({"requird": []}), "response_format", "'requird' at '#'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_asked_for_is_a_400_that_names_the_field(name, chat_body, completion_body):
    fields, param, words = REFUSED[name]
    for plan, body in ((chat.plan, chat_body), (completions.plan, completion_body)):
        with pytest.raises(InvalidRequest) as caught:
            plan(body(**fields))
        assert caught.value.param == param
        assert words in caught.value.message


UNENFORCEABLE = [
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentEncoding",
    "contentMediaType",
    "$dynamicRef",
    "nullable",
]
AROUND = {
    "#": lambda inner: inner,
    "#/properties/p": lambda inner: {"properties": {"p": inner}},
    "#/items": lambda inner: {"items": inner},
    "#/items/0": lambda inner: {"items": [inner]},
    "#/prefixItems/1": lambda inner: {"prefixItems": [{}, inner]},
    "#/anyOf/0": lambda inner: {"anyOf": [inner]},
    "#/allOf/0/oneOf/0": lambda inner: {"allOf": [{"oneOf": [inner]}]},
    "#/$defs/d": lambda inner: {"$defs": {"d": inner}},
    "#/definitions/d": lambda inner: {"definitions": {"d": inner}},
    "#/patternProperties/^x": lambda inner: {"patternProperties": {"^x": inner}},
    "#/additionalProperties": lambda inner: {"additionalProperties": inner},
}


@pytest.mark.parametrize("keyword", UNENFORCEABLE)
@pytest.mark.parametrize("where", AROUND)
def test_a_keyword_that_cannot_be_enforced_is_named_wherever_it_stands(keyword, where):
    with pytest.raises(InvalidRequest) as caught:
        check_keywords(AROUND[where]({keyword: True}), "response_format")
    assert caught.value.message == f"The keyword '{keyword}' at '{where}' is not supported."


@pytest.mark.parametrize("keyword", UNENFORCEABLE)
def test_the_same_word_as_a_property_or_a_value_means_nothing(keyword):
    check_keywords({"properties": {keyword: {}}, "const": {keyword: 1}, "enum": [{keyword: 1}]}, "p")
    check_keywords({"default": {keyword: 1}, "examples": [{keyword: 1}], "required": [keyword], "x-note": {keyword: 1}}, "p")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(sorted(SUPPORTED)) | st.text(max_size=5), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_whatever_stands_in_a_schema_is_accepted_or_refused_and_nothing_else(schema):
    with suppress(InvalidRequest):
        check_keywords(schema, "guided_json")


@pytest.mark.parametrize(
    "key", ["structural_tag", "whitespace_pattern", "disable_any_whitespace", "disable_additional_properties"]
)
def test_what_vllm_knows_and_we_do_not_is_refused_by_name(key, chat_body):
    with pytest.raises(UnsupportedParameter) as caught:
        chat.plan(chat_body(structured_outputs={"regex": "a", key: True}))
    assert caught.value.param == f"structured_outputs.{key}"
