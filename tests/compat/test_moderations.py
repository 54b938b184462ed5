"""Moderation by the openai Python package, unchanged; the scripted model finds the categories that a text names."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

DOT = "data:image/png;base64,iVBORw0KGgo="


def test_each_text_gets_its_result_in_order(client: openai.OpenAI) -> None:
    answer = client.moderations.create(model="echo", input=["all is well", "some violence here", "hate and self-harm"])
    assert [result.flagged for result in answer.results] == [False, True, True]
    calm, violent, hateful = answer.results
    assert (violent.categories.violence, violent.category_scores.violence) == (True, 1.0)
    assert (violent.categories.hate, violent.category_scores.hate) == (False, 0.0)
    assert (hateful.categories.hate, hateful.categories.self_harm) == (True, True)
    assert violent.category_applied_input_types.violence == ["text"]
    assert not any(calm.categories.to_dict().values())
    for part in (violent.categories, violent.category_scores, violent.category_applied_input_types):
        assert len(part.to_dict()) == 13
    assert answer.id.startswith("modr-")
    assert answer.model == "echo"


def test_one_text_is_one_input_and_so_are_the_parts_of_a_list(client: openai.OpenAI) -> None:
    (one,) = client.moderations.create(model="echo", input="illicit").results
    assert one.categories.illicit
    parts: Any = [{"type": "text", "text": "some hate"}, {"type": "text", "text": "and harassment"}]
    (together,) = client.moderations.create(model="echo", input=parts).results
    assert (together.categories.hate, together.categories.harassment) == (True, True)


def test_without_a_model_the_one_that_can_answers_and_openai_s_name_is_an_alias(client: openai.OpenAI) -> None:
    assert client.moderations.create(input="violence").results[0].flagged
    answer = client.moderations.create(model="omni-moderation-latest", input="violence")
    assert answer.results[0].flagged
    assert answer.model == "omni-moderation-latest"


def test_a_model_that_is_no_classifier_says_so(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.moderations.create(model=model, input="x")
    assert caught.value.code == "unsupported_capability"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (None, "input"),
        ([], "input"),
        (7, "input"),
        (["a", 7], "input[1]"),
        (["a", {"type": "text", "text": "b"}], "input"),
        ([{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {"url": DOT}}], "input[1]"),
        ([{"type": "image_url", "image_url": DOT}], "input[0]"),
        ([{"type": "text"}], "input[0].text"),
        ([{"type": "sound"}], "input[0].type"),
        (["a"] * 2049, "input"),
        ("a" * 1_000_001, "input"),
        (["a" * 999_999] * 5, "input"),
    ],
)
def test_what_is_wrong_is_named(http: httpx2.Client, given: Any, param: str) -> None:
    answer = http.post("/v1/moderations", json={"model": "echo", "input": given})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
