"""Answers keep to their grammar: by the masks alone, with a model of random weights, and with the real one."""

from __future__ import annotations

import json
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from handlers import deferred
from handlers import types as t
from handlers.decoding import grammar as module
from handlers.decoding.grammar import Grammars, Matcher
from handlers.types import GrammarSpec
from openai_compat.errors import Cancelled, InvalidRequest, RateLimited

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "friend": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["name", "age", "friend"],
    "additionalProperties": False,
}
NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "additionalProperties": False}
SCHEMAS = {
    "nested": {
        "type": "object",
        "properties": {"a": PERSON | {"properties": {"b": {"enum": [1]}}, "required": ["b"]}},
        "required": ["a"],
    },
    "enum": {"enum": ["red", "green", 3, None, ["x", {"y": 1.5}], True]},
    "const": {"type": "object", "properties": {"kind": {"const": {"a": [1, "ü"]}}}, "required": ["kind"]},
    "array bounds": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "string", "maxLength": 3}],
        "items": False,
        "minItems": 2,
    },
    "integer bounds": {"type": "integer", "exclusiveMinimum": -17, "maximum": 230},
    "number bounds": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2.25},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 100, "maximum": 999},
    "recursion": PERSON,
    "reference": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "any of": {"anyOf": [{"type": "string", "maxLength": 4}, {"type": "object", "maxProperties": 1}, {"type": "integer"}]},
    "one of": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": kind}, "v": {"type": of}}, "required": ["k", "v"]}
            for kind, of in (("n", "integer"), ("b", "boolean"))
        ]
    },
    "all of": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 50}, {"multipleOf": 5}]},
    "pattern": {"type": "string", "pattern": "^[a-c]{2,4}-\\d+$", "maxLength": 8},
    "unanchored pattern": {"type": "string", "pattern": "ab", "maxLength": 6},
    "unicode": {"type": "object", "properties": {"naïve 日本 😀": {"enum": ["é", "中文"]}}, "required": ["naïve 日本 😀"]},
    "escapes": {
        "type": "object",
        "properties": {'q"\\\n/': {"const": 'a"\\b\t'}},
        "required": ['q"\\\n/'],
        "additionalProperties": False,
    },
    "free names": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    "named and free": {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "null"}},
    "name patterns": {"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
    "several types": {"type": ["integer", "null"], "minimum": 5},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "ipv6": {"type": "string", "format": "ipv6"},
    "email": {"type": "string", "format": "email", "maxLength": 12},
    "anything": {},
}
FORMATS = Draft202012Validator.FORMAT_CHECKER
LEAP_SECOND = re.compile(r"([Tt ]\d\d:\d\d):60")


def schema_spec(schema: object, **fields) -> GrammarSpec:
    return GrammarSpec(kind="json_schema", source=json.dumps(schema), **fields)


def keeps_to(text: str, schema: object) -> None:
    """A leap second may be any minute's, as in the grammar of RFC 3339; the checker knows at which they may really be."""
    Draft202012Validator(schema, format_checker=FORMATS).validate(json.loads(LEAP_SECOND.sub(r"\1:59", text)))


@pytest.fixture(scope="session")
def grammars(tiny) -> Grammars:
    return tiny._grammars


def allowed(matcher: Matcher, size: int) -> list[int]:
    row = torch.zeros(-(-size // 32), dtype=torch.int32)
    assert matcher.fill_mask(row)
    bits = (row[:, None] >> torch.arange(32, dtype=torch.int32)) & 1
    return bits.reshape(-1)[:size].nonzero()[:, 0].tolist()


def wander(grammars: Grammars, spec: GrammarSpec, seed: int, most: int = 300) -> str | None:
    """Any way through the grammar, ever shorter tokens and ends preferred the longer it takes; None if it found no end."""
    vocabulary, source = grammars._vocabulary, random.Random(seed)
    matcher = grammars.compile(spec).matcher()
    text = b""
    for step in range(most):
        tokens = allowed(matcher, 400)
        assert tokens, "a dead end"
        token = 2 if 2 in tokens and source.random() < 0.5 else source.choice(tokens)
        if step > 40:
            closing = [one for one in tokens if vocabulary.token_bytes(one)[:1] in (b"}", b"]", b'"', b",", b":")]
            token = 2 if 2 in tokens else source.choice(closing or tokens)
        assert matcher.accept(token)
        text += b"" if token == 2 else vocabulary.token_bytes(token)
        if matcher.finished:
            return text.decode()
    return None


def ask(handler, spec: GrammarSpec, ctx, **sampling) -> t.TextResult:
    sampling = {"temperature": 1.0, "max_tokens": 80, **sampling}
    request = t.TextRequest(prompts=("Say:",), grammar=spec, sampling=t.Sampling(**sampling))
    handler.validate_inputs(request)
    return deferred.complete(handler.generate_text(request, ctx))


# ---------------------------------------------------------------- masks alone


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_way_through_a_schema_ends_in_an_answer_that_validates(grammars, name) -> None:
    found = [wander(grammars, schema_spec(SCHEMAS[name]), seed) for seed in range(12)]
    for text in found:
        if text is not None:
            keeps_to(text, SCHEMAS[name])
    assert any(text is not None for text in found)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=4)
VALUES = st.one_of(st.integers(-50, 50), NAMES, st.booleans(), st.none())
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size}, st.integers(-99, 99), st.integers(0, 99)
    ),
    st.builds(
        lambda low, size: {"type": "number", "minimum": low, "maximum": low + size}, st.integers(-9, 9), st.integers(1, 9)
    ),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size}, st.integers(0, 3), st.integers(0, 3)
    ),
    st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, VALUES),
    st.sampled_from([{"type": "string", "pattern": "^(ab|c)+$", "maxLength": 6}, {"type": "null"}]),
)


def objects(inner):
    def make(fields: dict, required: list[bool], rest: object) -> dict:
        needed = [name for name, is_needed in zip(fields, required, strict=False) if is_needed]
        return {"type": "object", "properties": fields, "required": needed, "additionalProperties": rest}

    return st.builds(
        make, st.dictionaries(NAMES, inner, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3), st.just(False) | inner
    )


def arrays(inner):
    make = lambda item, low, size: {"type": "array", "items": item, "minItems": low, "maxItems": low + size}  # noqa: E731
    return st.builds(make, inner, st.integers(0, 2), st.integers(0, 2))


TREES = st.recursive(
    LEAVES, lambda inner: objects(inner) | arrays(inner) | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner), max_leaves=6
)


@settings(max_examples=80, deadline=None)
@given(schema=TREES, seed=st.integers(0, 1000))
def test_no_mask_lets_an_invalid_answer_through(grammars, schema, seed) -> None:
    text = wander(grammars, schema_spec(schema), seed)
    if text is not None:
        keeps_to(text, schema)


@settings(max_examples=60, deadline=None)
@given(choices=st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_choice_is_one_of_the_texts_whatever_they_hold(grammars, choices, seed) -> None:
    spec = GrammarSpec(kind="choice", source=json.dumps(choices))
    assert wander(grammars, spec, seed) in choices


@pytest.mark.parametrize("regex", ["[a-z]{3}-\\d{2,4}", "(yes|no)!?", "^a/b$", "é+日?", "(?i)ok", "x{0,3}"])
def test_an_answer_matches_the_whole_regular_expression(grammars, regex) -> None:
    for seed in range(10):
        text = wander(grammars, GrammarSpec(kind="regex", source=regex), seed)
        assert text is None or re.fullmatch(regex, text)


@pytest.mark.parametrize(
    "grammar",
    [
        'start: "SELECT " COLUMN (", " COLUMN){0,2}\nCOLUMN: "a" | "b"',
        'root ::= "SELECT " column (", " column)?\ncolumn ::= "a" | "b"',
    ],
    ids=["lark", "gbnf"],
)
def test_an_answer_is_derived_from_a_grammar(grammars, grammar) -> None:
    texts = {wander(grammars, GrammarSpec(kind="grammar", source=grammar), seed) for seed in range(10)}
    assert texts
    assert all(re.fullmatch("SELECT [ab](, [ab]){0,2}", text) for text in texts)


def test_a_json_object_is_an_object_and_nothing_before_or_behind_it(grammars) -> None:
    for seed in range(10):
        text = wander(grammars, GrammarSpec(kind="json_object"), seed)
        assert text is None or (isinstance(json.loads(text), dict) and text == text.strip())


def test_control_tokens_are_never_part_of_a_text(grammars) -> None:
    matcher = grammars.compile(GrammarSpec(kind="regex", source="(?s:.)*")).matcher()
    assert not {0, 1} & set(allowed(matcher, 400))


def test_the_end_is_allowed_only_where_the_grammar_may_end(grammars) -> None:
    matcher = grammars.compile(GrammarSpec(kind="regex", source="a*b?")).matcher()
    letter = {bytes(grammars._vocabulary.token_bytes(n)): n for n in range(400)}
    assert 2 in allowed(matcher, 400)
    assert matcher.accept(letter[b"a"])
    assert not matcher.finished
    assert matcher.accept(letter[b"b"])
    assert matcher.finished


def test_a_token_that_may_not_follow_is_refused_and_ends_the_answer_with_an_error(grammars) -> None:
    matcher = grammars.compile(GrammarSpec(kind="regex", source="[0-9]{3}", param="guided_regex")).matcher()
    forbidden = next(n for n in range(3, 400) if n not in allowed(matcher, 400))
    assert not matcher.accept(forbidden)
    assert matcher.finished
    assert isinstance(matcher.error, InvalidRequest)


def test_answers_do_not_disturb_one_another(grammars) -> None:
    compilation = grammars.compile(GrammarSpec(kind="choice", source='["aa","bb"]'))
    first, second = compilation.matcher(), compilation.matcher()
    first.accept(next(n for n in allowed(first, 400) if n != 2))
    assert len(allowed(second, 400)) == 2 * len(allowed(first, 400))


# ---------------------------------------------------------------- through a model


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_random_model_at_temperature_one_keeps_to_the_schema(tiny, collector, name) -> None:
    for seed in range(3):
        choice = ask(tiny, schema_spec(SCHEMAS[name]), collector(), seed=seed).choices[0]
        if choice.finish_reason == "stop":
            keeps_to(choice.text, SCHEMAS[name])


@pytest.mark.usefixtures("ahead")
def test_with_max_tokens_reached_the_answer_says_length(tiny, collector) -> None:
    choice = ask(tiny, schema_spec({"type": "string", "minLength": 100}), collector(), max_tokens=5).choices[0]
    assert choice.finish_reason == "length"
    assert choice.text.startswith('"')


@pytest.mark.usefixtures("ahead")
def test_a_complete_form_ends_the_answer_at_once_whatever_else_was_asked_for(tiny, collector) -> None:
    spec = GrammarSpec(kind="choice", source='["yes"]')
    choice = ask(tiny, spec, collector(), min_tokens=40, ignore_eos=True, max_tokens=60).choices[0]
    assert (choice.text, choice.finish_reason) == ("yes", "stop")


def test_a_bias_does_not_win_over_the_grammar(tiny, collector) -> None:
    spec = GrammarSpec(kind="regex", source="[0-9]{4}")
    letters = dict.fromkeys(range(3, 60), 100.0)
    assert re.fullmatch("[0-9]{4}", ask(tiny, spec, collector(), logit_bias=letters, temperature=0.0).choices[0].text)


@pytest.mark.usefixtures("ahead")
def test_each_of_several_choices_follows_the_grammar_by_itself(tiny, collector) -> None:
    texts = [choice.text for choice in ask(tiny, GrammarSpec(kind="regex", source="[ab]{5}"), collector(), n=4, seed=1).choices]
    assert all(re.fullmatch("[ab]{5}", text) for text in texts)
    assert len(set(texts)) > 1


@pytest.mark.usefixtures("ahead")
def test_what_was_streamed_is_the_answer(tiny, collector) -> None:
    ctx = collector()
    choice = ask(tiny, schema_spec(SCHEMAS["array bounds"]), ctx, seed=3).choices[0]
    assert ctx.text() == choice.text


@pytest.mark.usefixtures("ahead")
def test_others_are_answered_in_the_same_steps_and_are_none_the_worse(tiny, collector) -> None:
    free = t.TextRequest(prompts=("The quick",), sampling=t.Sampling(temperature=0.0, max_tokens=12, ignore_eos=True))
    alone = deferred.complete(tiny.generate_text(free, collector())).choices[0].text
    held = t.TextRequest(
        prompts=("x",),
        grammar=GrammarSpec(kind="regex", source="[0-9]{12}"),
        sampling=t.Sampling(max_tokens=40, temperature=1.0),
    )
    first, second = tiny.generate_text(held, collector()), tiny.generate_text(free, collector())
    while first.poll() is None or second.poll() is None:
        first.driver.step()
    assert second.poll().choices[0].text == alone
    assert re.fullmatch("[0-9]{12}", first.poll().choices[0].text)


def test_a_model_that_is_served_alone_keeps_to_grammars_too(family, collector) -> None:
    for choice in ask(family("falcon").handler, GrammarSpec(kind="regex", source="[ab]{5}"), collector(), n=2).choices:
        assert re.fullmatch("[ab]{5}", choice.text)


def test_the_real_model_writes_what_it_is_told_in_the_form_it_is_told(smollm2, collector) -> None:
    schema = {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 2, "maxItems": 3}
    choice = ask(smollm2, schema_spec(schema), collector(), max_tokens=40, seed=5).choices[0]
    assert choice.finish_reason == "stop"
    keeps_to(choice.text, schema)


# ---------------------------------------------------------------- what cannot be used

BAD = {
    "no keyword of theirs": (schema_spec({"type": "array", "uniqueItems": True}), "uniqueItems"),
    "unknown format": (schema_spec({"type": "string", "format": "zip"}), "'format' 'zip'"),
    "look-ahead in a pattern": (schema_spec({"type": "string", "pattern": "(?=a)b"}), "look-ahead"),
    "a reference to nowhere": (schema_spec({"$ref": "#/$defs/none"}), "/$defs/none"),
    "bounds that leave nothing": (schema_spec({"type": "integer", "minimum": 3, "maximum": 1}), "minimum"),
    "nothing at all": (schema_spec(False), "schema is false"),
    "no type": (schema_spec({"type": "text"}), "text"),
    "a bound that is no number": (schema_spec({"type": "integer", "minimum": "3"}), "minimum"),
    "branches that overlap": (schema_spec({"oneOf": [{"type": "number"}, {"type": "integer"}]}), "oneOf"),
    "a switch for the library": (schema_spec({"x-guidance": {"lenient": True}, "uniqueItems": True}), "uniqueItems"),
    "an open bracket": (GrammarSpec(kind="regex", source="[a"), "unclosed"),
    "a back-reference": (GrammarSpec(kind="regex", source="(a)\\1"), "backreferences"),
    "an unknown rule": (GrammarSpec(kind="grammar", source="start: other"), "other"),
    "an open parenthesis": (GrammarSpec(kind="grammar", source='root ::= ("a"'), "Expected"),
    "no beginning": (GrammarSpec(kind="grammar", source='x ::= "a"'), "root"),
    "rules that never end": (GrammarSpec(kind="grammar", source="start: start"), "matches no text"),
    "patterns too many": (
        GrammarSpec(kind="grammar", source="start: A\nA: /.*a.{12}/ & /.*b.{13}/ & /.*c.{14}/ & ~/.*d.{12}/"),
        "too complex",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_and_the_field_named(grammars, name) -> None:
    spec, words = BAD[name]
    spec = GrammarSpec(kind=spec.kind, source=spec.source, param="structured_outputs.json")
    for _ in range(2):
        with pytest.raises(InvalidRequest) as caught:
            grammars.compile(spec).matcher()
        assert caught.value.param == "structured_outputs.json"
        assert words in caught.value.message
        assert "\n" not in caught.value.message


def test_the_same_refusal_names_the_field_of_whoever_asked(grammars) -> None:
    for param in ("response_format", "guided_regex"):
        with pytest.raises(InvalidRequest) as caught:
            grammars.compile(GrammarSpec(kind="regex", source="[b", param=param)).matcher()
        assert caught.value.param == param


def test_a_bad_grammar_fails_its_own_request_only(tiny, collector) -> None:
    bad = t.TextRequest(prompts=("x",), grammar=GrammarSpec(kind="regex", source="[c"), sampling=t.Sampling(max_tokens=5))
    good = t.TextRequest(prompts=("x",), sampling=t.Sampling(max_tokens=5))
    first, second = tiny.generate_text(bad, collector()), tiny.generate_text(good, collector())
    with pytest.raises(InvalidRequest):
        deferred.complete(first)
    assert deferred.complete(second).choices


@pytest.mark.usefixtures("ahead")
def test_a_dead_end_fails_its_request_and_leaves_the_engine_alone(tiny, collector) -> None:
    spec = GrammarSpec(kind="grammar", source='start: "a" b\nb: b "c"')
    with pytest.raises(InvalidRequest):
        ask(tiny, spec, collector())
    assert ask(tiny, GrammarSpec(kind="choice", source='["a"]'), collector()).choices[0].text == "a"


# ---------------------------------------------------------------- keeping and waiting


class Slow:
    """Stands in for what builds; ``gate`` lets it go on."""

    def __init__(self, inner, gate: threading.Event) -> None:
        self._inner, self._gate = inner, gate
        self.built: list[str] = []

    def build(self, spec, cache):
        self.built.append(spec.source)
        assert self._gate.wait(30)
        return self._inner.build(spec, cache)


@pytest.fixture
def slow(tiny):
    """Grammars of the tiny model whose building waits for ``gate``."""
    grammars = Grammars(tiny._lm.vocabulary, vocab_size=400, ends=frozenset({2}))
    gate = threading.Event()
    grammars._builder = Slow(module.Builder(grammars._tokens(), 2.0), gate)
    yield grammars, gate
    gate.set()


def test_a_grammar_is_built_once_however_many_ask(slow) -> None:
    grammars, gate = slow
    spec = GrammarSpec(kind="regex", source="q+")
    waiting = [grammars.compile(spec) for _ in range(5)]
    assert not any(one.wait(0.0) for one in waiting)
    gate.set()
    assert [one.matcher().finished for one in waiting] == [False] * 5
    grammars.compile(spec).matcher()
    assert grammars._builder.built == ["q+"]


def test_others_go_on_while_a_grammar_is_being_built(tiny, slow, collector, monkeypatch) -> None:
    grammars, gate = slow
    monkeypatch.setattr(tiny, "_grammars", grammars)
    held = t.TextRequest(prompts=("x",), grammar=GrammarSpec(kind="regex", source="r{3}"), sampling=t.Sampling(max_tokens=9))
    waiting = tiny.generate_text(held, collector())
    free = tiny.generate_text(t.TextRequest(prompts=("x",), sampling=t.Sampling(max_tokens=5)), collector())
    while free.poll() is None:
        free.driver.step()
        assert waiting.poll() is None
    gate.set()
    assert deferred.complete(waiting).choices[0].text == "rrr"


def test_a_request_that_waits_for_its_grammar_can_be_cancelled(tiny, slow, collector, monkeypatch) -> None:
    monkeypatch.setattr(tiny, "_grammars", slow[0])
    request = t.TextRequest(prompts=("x",), grammar=GrammarSpec(kind="regex", source="s{3}"), sampling=t.Sampling(max_tokens=9))
    waiting = tiny.generate_text(request, collector(checks=3, error=Cancelled))
    with pytest.raises(Cancelled):
        deferred.complete(waiting)


def test_too_many_new_grammars_at_once_are_refused(slow) -> None:
    grammars, gate = slow
    waiting = [grammars.compile(GrammarSpec(kind="regex", source=f"a{i}")) for i in range(module.MAX_WAITING)]
    with pytest.raises(RateLimited) as caught:
        grammars.compile(GrammarSpec(kind="regex", source="one more"))
    assert caught.value.retry_after
    gate.set()
    assert all(one.wait(30) for one in waiting)


def test_what_is_kept_stays_within_its_bytes(tiny) -> None:
    grammars = Grammars(tiny._lm.vocabulary, vocab_size=400, ends=frozenset({2}), capacity=5 << 20)
    for i in range(12):
        grammars.compile(GrammarSpec(kind="regex", source=f"a{i}")).matcher()
    assert 0 < len(grammars._cache) < 5
    assert grammars._cache.size <= 5 << 20


def test_a_model_without_an_end_of_its_own_ends_with_the_grammar(tiny) -> None:
    grammars = Grammars(tiny._lm.vocabulary, vocab_size=400, ends=frozenset())
    matcher = grammars.compile(GrammarSpec(kind="choice", source='["a"]')).matcher()
    for _ in range(1):
        matcher.accept(allowed(matcher, 400)[0])
    assert matcher.finished


def test_many_threads_may_ask_at_once(grammars) -> None:
    specs = [GrammarSpec(kind="regex", source=f"z{{{i % 4}}}y") for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda spec: grammars.compile(spec).matcher() is not None, specs))
