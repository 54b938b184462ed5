"""Structured output with the official SDK, the real model and a live server."""

from __future__ import annotations

import json
import re
from enum import Enum

import openai
import pytest
from pydantic import BaseModel, Field

ASK = [{"role": "user", "content": "Describe an apple. Its colour, its price and its tags."}]


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Fruit(BaseModel):
    name: str = Field(max_length=20)
    colour: Colour
    price: int = Field(ge=1, le=9)
    tags: list[str] = Field(min_length=1, max_length=2)
    note: str | None


class PlainFruit(BaseModel):
    name: Colour
    price: int = Field(ge=1, le=9)
    ripe: bool
    tags: list[Colour] = Field(min_length=1, max_length=2)


def test_parse_gives_a_pydantic_object(client, model) -> None:
    answer = client.chat.completions.parse(model=model, messages=ASK, response_format=PlainFruit, max_tokens=200, seed=1)
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(answer.choices[0].message.parsed, PlainFruit)


def test_a_schema_is_kept_to_at_any_temperature(client, model) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "fruit", "schema": Fruit.model_json_schema(), "strict": True}}
    for seed in range(3):
        answer = client.chat.completions.create(
            model=model, messages=ASK, response_format=schema, temperature=1.3, seed=seed, max_tokens=300
        )
        if answer.choices[0].finish_reason == "stop":
            Fruit.model_validate_json(answer.choices[0].message.content)


def test_a_streamed_answer_is_the_same_json(client, model) -> None:
    fields = {"model": model, "messages": ASK, "response_format": {"type": "json_object"}, "temperature": 0.0, "max_tokens": 60}
    whole = client.chat.completions.create(**fields).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**fields, stream=True)]
    assert "".join(pieces) == whole
    assert whole.startswith("{")


def test_vllms_fields_work_in_chats_and_completions(client, model) -> None:
    chat = client.chat.completions.create(
        model=model, messages=ASK, max_tokens=20, extra_body={"structured_outputs": {"choice": ["red", "green"]}}
    )
    assert chat.choices[0].message.content in ("red", "green")
    text = client.completions.create(
        model=model, prompt="Code:", max_tokens=20, extra_body={"guided_regex": "[A-Z]{3}-[0-9]{2}"}
    )
    assert re.fullmatch("[A-Z]{3}-[0-9]{2}", text.choices[0].text)


def test_an_answer_that_is_cut_says_length(client, model) -> None:
    long = {"guided_json": {"type": "string", "minLength": 100}}
    answer = client.chat.completions.create(model=model, messages=ASK, max_tokens=3, extra_body=long)
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "format": "zip"}, "zip"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"type": "string", "pattern": "(?=a)"}, "look-ahead"),
        ({"allOf": [{"type": "string", "pattern": f"a.{{{i}}}b"} for i in range(30)]}, "too complex"),
    ],
    ids=["keyword", "format", "reference", "pattern", "time"],
)
def test_a_schema_that_cannot_be_followed_is_a_400_that_says_why(client, model, schema, words) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model=model,
                messages=ASK,
                stream=stream,
                response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
            )
        assert caught.value.param == "response_format"
        assert words in json.dumps(caught.value.body)
