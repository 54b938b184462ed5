"""Schemas, expressions and grammars made to cost: each is refused or can be followed, in bounded time, and the next works."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import torch

from handlers.decoding.grammar import Grammars, Matcher
from handlers.types import GrammarSpec
from openai_compat.errors import InvalidRequest
from openai_compat.translate.structured import grammar_of
from schemas.chat import ChatCompletionRequest
from schemas.decode import decode

Fields = dict[str, Any]
VOCAB = 257


class Letters:
    """The bytes, and an end."""

    special = frozenset({256})

    def token_bytes(self, number: int) -> bytes:
        return bytes([number]) if number < 256 else b"<end>"


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(Letters(), vocab_size=VOCAB, ends=frozenset({256}))


def schema(value: Any) -> Fields:
    return {"guided_json": value}


def nested(depth: int, **more: Any) -> Any:
    value: Any = {"type": "integer"}
    for _ in range(depth):
        value = {"type": "array", "items": value, **more}
    return value


def chain(link: Callable[[dict[str, str]], Any]) -> Any:
    """Sixty definitions, each of which names the next one twice."""
    definitions = {f"d{i}": link({"$ref": f"#/$defs/d{i + 1}"}) for i in range(60)}
    return {"$defs": {**definitions, "d60": {"type": "string"}}, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, Fields] = {
    "a reference to itself": schema({"$ref": "#"}),
    "references in a circle": schema({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    "a circle of allOf": schema({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"type": "object"}]}}, "$ref": "#/$defs/a"}),
    "an object that never ends": schema({"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}),
    "2^60 objects by references": schema(chain(lambda to: {"type": "object", "properties": {"x": to, "y": to}})),
    "2^60 ways by references": schema(chain(lambda to: {"anyOf": [to, to]})),
    "2^60 conditions by references": schema(chain(lambda to: {"allOf": [to, to]})),
    "10^9 letters at least": schema({"type": "string", "minLength": 10**9}),
    "10^9 letters at most": schema({"type": "string", "maxLength": 10**9}),
    "10^30 letters": schema({"type": "string", "minLength": 10**30}),
    "minus one letter": schema({"type": "string", "minLength": -1}),
    "10^9 items": schema({"type": "array", "items": {"type": "string"}, "minItems": 10**9}),
    "10^9 items in levels": schema(nested(3, minItems=1000, maxItems=1000)),
    "nine hundred items by place": schema({"type": "array", "prefixItems": [{"type": "string"}] * 900}),
    "a pattern of quantifiers": schema({"type": "string", "pattern": "((a{1,100}){1,100}){1,100}"}),
    "a pattern of larger ones": schema({"type": "string", "pattern": "(((a{0,1000}){0,1000}){0,1000}){0,1000}"}),
    "a pattern that backtracks": schema({"type": "string", "pattern": "^(a+)+$"}),
    "patterns that exclude one another": schema({"allOf": [{"type": "string", "pattern": f"a.{{{i}}}b"} for i in range(30)]}),
    "names by patterns": schema({"type": "object", "patternProperties": {f"^{'a' * i}.*b.{{{i}}}$": {} for i in range(1, 30)}}),
    "items that differ": schema({"type": "array", "uniqueItems": True}),
    "multiples of almost nothing": schema({"type": "number", "multipleOf": 1e-300}),
    "multiples of nothing": schema({"type": "number", "multipleOf": 0}),
    "multiples of a large prime": schema({"type": "integer", "multipleOf": 9973}),
    "multiples of four primes": schema({"allOf": [{"type": "integer", "multipleOf": p} for p in (7919, 7907, 7901, 7883)]}),
    "numbers between far bounds": schema({"type": "integer", "minimum": -(10**300), "maximum": 10**300}),
    "numbers between near bounds": schema({"type": "number", "minimum": 0.1234567890123456, "maximum": 0.12345678901234562}),
    "250 properties": schema({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(250)}}),
    "a thousand values": schema({"enum": [f"{'x' * 50}{i}" for i in range(1000)]}),
    "1001 values": schema({"enum": list(range(1001))}),
    "two hundred branches": schema({"oneOf": [{"properties": {"k": {"const": i}}, "required": ["k"]} for i in range(200)]}),
    "10^10 branches": schema(
        {"allOf": [{"anyOf": [{"type": "string", "pattern": f"a{{{i}}}.*"} for i in range(10)]} for _ in range(10)]}
    ),
    "33 levels": schema(nested(33)),
    "64 KiB": schema({"description": "x" * (64 << 10)}),
    "a thousand and one nodes": schema({"enum": [[] for _ in range(1000)], "anyOf": [{}, {}]}),
    "a switch for the library": schema({"type": "object", "x-guidance": {"lenient": True}}),
    "a schema as a text": {"guided_json": '{"$ref": "#"}'},
    "a text of brackets": {"guided_json": "[" * 60_000},
    "an expression of quantifiers": {"guided_regex": "((a{1,100}){1,100}){1,100}"},
    "an expression of 10^9 letters": {"guided_regex": "a{1000000000}"},
    "an expression that looks far back": {"guided_regex": ".*a.{500}"},
    "an expression of brackets": {"guided_regex": "(" * 500 + ")" * 500},
    "an expression of all letters": {"guided_regex": r"(\p{L}{1,50}){1,50}"},
    "an expression of 1025 bytes": {"guided_regex": "a" * 1025},
    "newlines, which a reader may count again and again": {"guided_grammar": "\n" * 60_000 + 'root ::= "a"'},
    "30,000 brackets": {"guided_grammar": "root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000},
    "2^2000 letters by rules": {
        "guided_grammar": "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(2000)) + '\nr2000 ::= "a"\nroot ::= r0'
    },
    "10^12 letters": {"guided_grammar": 'start: ((("a"{1,1000}){1,1000}){1,1000}){1,1000}'},
    "an expression within a grammar": {"guided_grammar": "start: /" + "(a|b)*" * 5000 + "/"},
    "a rule that begins with itself": {"guided_grammar": 'start: start start | "a" | ""'},
    "quotes": {"guided_grammar": "root ::= " + '"' * 60_001},
    "a thousand long choices": {"guided_choice": ["x" * 60] * 1000},
}


def asked(fields: Fields) -> GrammarSpec:
    body = {"model": "m", "messages": [{"role": "user"}], **fields}
    spec = grammar_of(decode(json.dumps(body).encode(), ChatCompletionRequest))
    assert spec is not None
    return spec


def follow(matcher: Matcher, tokens: int = 40) -> float:
    """Take tokens by chance, and tell how long the slowest took."""
    row, dice, slowest = torch.zeros(-(-VOCAB // 32), dtype=torch.int32), random.Random(1), 0.0
    for _ in range(tokens):
        began = time.process_time()
        bounded = matcher.fill_mask(row)
        if matcher.finished:
            break
        bits = [number for number in range(256) if not bounded or row[number // 32].item() >> (number % 32) & 1]
        matcher.accept(dice.choice(bits or [256]))
        slowest = max(slowest, time.process_time() - began)
    return slowest


LONG = {"patterns that exclude one another", "2^2000 letters by rules"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in HOSTILE])
def test_it_is_refused_or_followed_and_nobody_waits_for_it(grammars: Grammars, name: str) -> None:
    began, own = time.monotonic(), time.process_time()
    try:
        slowest = follow(grammars.compile(asked(HOSTILE[name])).matcher())
    except InvalidRequest as error:
        slowest = 0.0
        assert_is_clear(error)
    assert time.monotonic() - began < 30  # the trial's two seconds, and a new process for it on a busy machine
    assert time.process_time() - own < 2  # what the model's own process does for it, with its interpreter's lock
    assert slowest < 1
    assert psutil.Process().memory_info().rss < 3 << 30
    follow(grammars.compile(asked({"guided_choice": ["yes", "no", name]})).matcher())


def assert_is_clear(error: InvalidRequest) -> None:
    assert error.param is not None
    assert len(error.message) < 500


def test_a_tool_s_schema_cannot_switch_the_library_either(grammars: Grammars) -> None:
    """Bounds hold for it, keywords do not; what it says to the library itself does not count."""
    source = {"tools": [["f", {"x-guidance": {"whitespace_pattern": "(x+)+"}, "properties": {}}]], "calls": 1}
    matcher = grammars.compile(GrammarSpec(kind="tool_calls", source=json.dumps(source), param="tools")).matcher()
    for letter in b'{"name": "f", "arguments": {':
        assert matcher.accept(letter)
    assert not matcher.accept(ord("x"))
