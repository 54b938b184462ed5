"""Forms become the same Structs as JSON, in every spelling that clients use."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct

from openai_compat.errors import InvalidRequest
from schemas.form import decode_form


class Detection(Struct, frozen=True, kw_only=True, tag="server_vad", tag_field="type"):
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    padding_ms: int | None = None


class Ask(Struct, frozen=True, kw_only=True):
    model: Annotated[str, Meta(max_length=10)]
    prompt: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    stream: bool | None = None
    count: Annotated[int, Meta(ge=1, le=9)] | None = None
    granularities: Annotated[list[Literal["word", "segment"]], Meta(max_length=2)] | None = None
    strategy: Literal["auto"] | Detection | None = None
    of: str | None = None


class Fields:
    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.fields: dict[str, list[str]] = {}
        for name, text in (("model", "m"), *pairs):
            self.fields.setdefault(name, []).append(text)


def ask(*pairs: tuple[str, str]) -> Ask:
    return decode_form(Fields(*pairs), Ask)


def refusal(*pairs: tuple[str, str]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        ask(*pairs)
    return caught.value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("temperature", "1", 1.0),
        ("stream", "true", True),
        ("stream", "False", False),
        ("stream", "1", True),
        ("count", "3", 3),
        ("prompt", "true", "true"),
        ("prompt", "0.5", "0.5"),
        ("prompt", "", ""),
        ("prompt", "{}", "{}"),
    ],
)
def test_a_text_becomes_what_the_schema_says(name, text, value) -> None:
    assert getattr(ask((name, text)), name) == value


@pytest.mark.parametrize("name", ["temperature", "stream", "count", "granularities", "strategy"])
def test_a_blank_field_that_can_be_no_text_is_not_given(name) -> None:
    assert not getattr(ask((name, "")), name)


@pytest.mark.parametrize(
    "pairs",
    [
        [("granularities[]", "word"), ("granularities[]", "segment")],
        [("granularities", "word"), ("granularities", "segment")],
        [("granularities[]", "word"), ("granularities", "segment")],
        [("granularities", '["word", "segment"]')],
        [("granularities[]", '["word", "segment"]')],
    ],
    ids=["brackets", "bare", "both", "json", "json in brackets"],
)
def test_a_list_in_every_spelling(pairs) -> None:
    assert ask(*pairs).granularities == ["word", "segment"]


def test_one_item_is_a_list_too() -> None:
    assert ask(("granularities[]", "word")).granularities == ["word"]
    assert ask(("granularities", "word")).granularities == ["word"]


@pytest.mark.parametrize(
    "pairs",
    [
        [("strategy[type]", "server_vad"), ("strategy[threshold]", "0.25"), ("strategy[padding_ms]", "300")],
        [("strategy[threshold]", "0.25"), ("strategy[padding_ms]", "300"), ("strategy[type]", "server_vad")],
        [("strategy", '{"type": "server_vad", "threshold": 0.25, "padding_ms": 300}')],
    ],
    ids=["brackets", "other order", "json"],
)
def test_an_object_in_every_spelling(pairs) -> None:
    assert ask(*pairs).strategy == Detection(threshold=0.25, padding_ms=300)


def test_a_union_of_word_and_object_takes_the_word() -> None:
    assert ask(("strategy", "auto")).strategy == "auto"


def test_unknown_fields_are_ignored() -> None:
    assert ask(("nobody", "knows"), ("nor[this]", "one"), ("a[b][c]", "x"), ("[", "x"), ("granularities[x][y]", "z")) == ask()


@pytest.mark.parametrize(
    ("pairs", "param"),
    [
        ([("temperature", "warm")], "temperature"),
        ([("temperature", "1.5")], "temperature"),
        ([("temperature", "nan")], "temperature"),
        ([("count", "0")], "count"),
        ([("count", "9" * 5000)], "count"),
        ([("stream", "perhaps")], "stream"),
        ([("granularities[]", "word"), ("granularities[]", "letter")], "granularities[]"),
        ([("granularities", "letter")], "granularities"),
        ([("granularities[]", "word")] * 3, "granularities[]"),
        ([("strategy[type]", "server_vad"), ("strategy[threshold]", "7")], "strategy[threshold]"),
        ([("strategy", "never")], "strategy"),
        ([("strategy", "auto"), ("strategy[type]", "server_vad")], "strategy[type]"),
        ([("strategy", "[" * 100_000)], "strategy"),
        ([("granularities", "[" * 100_000)], "granularities"),
        ([("prompt", "one"), ("prompt", "two")], "prompt"),
        ([("model", "other")], "model"),
    ],
)
def test_what_is_wrong_is_named_as_the_client_spelled_it(pairs, param) -> None:
    error = refusal(*pairs)
    assert error.param == param
    assert f"'{param}'" in error.message
    assert len(error.message) < 500


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="Missing required parameter: 'model'") as caught:
        decode_form(type("Empty", (), {"fields": {}})(), Ask)
    assert caught.value.param == "model"


def test_the_same_text_twice_is_one_text() -> None:
    assert ask(("prompt", "one"), ("prompt", "one")).prompt == "one"
