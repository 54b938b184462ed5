"""The openai npm package, unchanged, against the real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Node = Callable[..., dict[str, Any]]


def test_a_whole_answer_says_paris(node: Node, model: str) -> None:
    seen = node("whole")
    assert "Paris" in seen["text"]
    assert seen["finish"] == "stop"
    assert seen["model"] == model
    assert seen["usage"]["total_tokens"] == seen["usage"]["prompt_tokens"] + seen["usage"]["completion_tokens"]
    assert seen["requestID"]


def test_a_stream_says_the_same_as_the_whole_answer(node: Node) -> None:
    seen = node("stream")
    assert seen["text"] == node("whole")["text"]
    assert seen["finishes"] == ["stop"]
    assert seen["roles"] == ["assistant"]
    assert seen["ids"] == 1
    assert seen["usage"] == []
    assert seen["chunks"] > 3


def test_usage_comes_last_with_empty_choices_when_asked(node: Node) -> None:
    seen = node("streamUsage")
    assert [entry["choices"] for entry in seen["usage"]] == [[]]
    assert seen["usage"][0]["total"] > 0


def test_legacy_completions_continue_the_prompt(node: Node) -> None:
    assert "four" in node("completion")["text"]


def test_models_are_listed_and_looked_up(node: Node, model: str) -> None:
    seen = node("models")
    assert model in seen["ids"]
    assert seen["one"]["id"] == model
    assert seen["one"]["object"] == "model"
    assert isinstance(seen["one"]["created"], int)


def test_an_unknown_model_is_a_not_found_error_with_message_and_code(node: Node) -> None:
    seen = node("unknownModel")
    assert (seen["name"], seen["status"], seen["code"], seen["param"]) == ("NotFoundError", 404, "model_not_found", "model")
    assert "no-such-model" in seen["message"]
    assert seen["requestID"]


def test_a_bad_field_is_a_bad_request_that_names_it(node: Node) -> None:
    seen = node("badField")
    assert (seen["name"], seen["status"], seen["param"]) == ("BadRequestError", 400, "temperature")
    assert "temperature" in seen["message"]


def test_a_failure_in_the_middle_of_a_stream_is_raised(node: Node) -> None:
    seen = node("streamFailure", "echo")
    assert seen["raised"], seen
    assert "told this model to fail" in seen["message"]


def test_leaving_a_stream_early_is_no_error(node: Node) -> None:
    assert node("abort")["chunks"] == 3
