"""Decisions as pure functions: prompts, probabilities, answers."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from openai_compat.errors import InvalidRequest, UnsupportedCapability
from openai_compat.translate.decided import joined, shares_of, to_answer, together, usage_of
from openai_compat.translate.decisions import AT_ONCE, MAX_BYTES, asked_of, chat_of, groups_of, to_input
from schemas.answers import ReadAnswer
from schemas.decisions import CreateDecisionRequest, ScoreAnswer

COLOURS = {"type": "choice", "instructions": "Which?", "choices": [{"value": "true"}, {"value": True, "description": "yes"}]}


def request(*questions: dict, **fields) -> CreateDecisionRequest:
    body = {"model": "m", "input": "the input", "questions": questions or [COLOURS], **fields}
    return msgspec.convert(body, CreateDecisionRequest)


def answer(*tokens: tuple[object, object], **fields) -> ReadAnswer:
    top = [{"token": token, "logprob": logprob} for token, logprob in tokens]
    body = {"choices": [{"logprobs": {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]}}], **fields}
    return msgspec.convert(body, ReadAnswer)


def test_the_input_comes_first_and_the_question_last_in_both_orders() -> None:
    asked = request()
    turn = to_input(asked)
    (question,) = map(asked_of, asked.questions)
    forward, backward = (chat_of(turn, question, reverse=reverse) for reverse in (False, True))
    assert forward["messages"][:-1] == backward["messages"][:-1] == turn.chat["messages"]
    assert forward["messages"][-1]["content"].startswith('Which?\n\nA: "true"\nB: true (yes)\n\n')
    assert backward["messages"][-1]["content"].startswith('Which?\n\nA: true (yes)\nB: "true"\n\n')
    assert (forward["max_completion_tokens"], forward["logprobs"], forward["top_logprobs"]) == (1, True, AT_ONCE)


def test_pictures_of_a_question_stay_parts() -> None:
    part = {"type": "input_image", "image_url": "data:x", "detail": "original"}
    asked = request({"type": "predicate", "instructions": [part, {"type": "input_json", "data": {"a": [1]}}]})
    content = chat_of(to_input(asked), asked_of(asked.questions[0]), reverse=False)["messages"][-1]["content"]
    assert [entry["type"] for entry in content] == ["text", "image_url", "text", "text"]
    assert content[1]["image_url"] == {"url": "data:x", "detail": "high"}
    assert content[2]["text"] == '{"a":[1]}'


@given(some.integers(2, 255))
def test_options_in_groups_are_all_there_and_never_too_many(number: int) -> None:
    groups = groups_of([str(i) for i in range(number)])
    assert [i for group in groups for i in group] == list(range(number))
    assert all(1 <= len(group) <= AT_ONCE for group in groups)
    assert len(groups) <= AT_ONCE


def test_a_long_input_may_have_fewer_questions() -> None:
    predicate = {"type": "predicate", "instructions": "Is it?"}
    longest = "x" * (MAX_BYTES // 800)
    with pytest.raises(InvalidRequest) as caught:
        to_input(request(*[predicate] * 400, input=longest))
    assert caught.value.param == "input"
    to_input(request(*[predicate] * 399, input=longest))


def test_letters_are_found_however_they_are_written_and_what_is_not_told_counts_least() -> None:
    told = answer(("A", math.log(0.4)), (" A", math.log(0.2)), ("B.", math.log(0.3)), ("The", math.log(0.1)))
    assert shares_of(told, 3) == pytest.approx([0.6, 0.3, 0.1])
    assert shares_of(answer(("The", -0.1), ("An", -3.0)), 2) is None


@pytest.mark.parametrize("tokens", [[("A", float("nan"))], [("A", None)], [(7, -1.0)], [("A", True)]])
def test_probabilities_that_are_none_are_no_answer(tokens) -> None:
    assert shares_of(answer(*tokens), 2) is None


def test_numbers_beyond_all_bounds_still_sum_to_one() -> None:
    assert shares_of(answer(("A", 1e300), ("B", -1e300)), 2) == pytest.approx([1, 0])
    assert sum(shares_of(answer(("A", -800.0), ("B", -900.0)), 2) or [1.0]) == pytest.approx(1)


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"logprobs": {"content": []}}]}])
def test_a_model_without_probabilities_says_so(body) -> None:
    with pytest.raises(UnsupportedCapability):
        shares_of(msgspec.convert(body, ReadAnswer), 2)


SHARES = some.lists(some.floats(1e-6, 1), min_size=2, max_size=20).map(lambda found: [one / sum(found) for one in found])


@given(SHARES)
def test_two_orders_that_agree_change_nothing_and_a_liking_for_letters_cancels_out(shares: list[float]) -> None:
    assert together(shares, shares[::-1]) == pytest.approx(shares)
    for_places = together(shares, shares)
    assert for_places == pytest.approx((for_places or [])[::-1])
    assert together(shares, None) is together(None, shares) is None


@given(SHARES, SHARES)
def test_groups_and_their_options_sum_to_one(groups: list[float], one: list[float]) -> None:
    within = [one, *[None] * (len(groups) - 1)]
    found = joined(groups, within, [len(one), *[3] * (len(groups) - 1)])
    assert sum(found) == pytest.approx(1)
    assert found[: len(one)] == pytest.approx([groups[0] * share for share in one])


def test_a_score_is_the_mean_of_its_levels() -> None:
    (question,) = request(
        {"type": "score", "instructions": "?", "levels": [{"label": "a"}, {"label": "b"}, {"label": "c"}]}
    ).questions
    found = to_answer(question, [0.2, 0.3, 0.5])
    assert isinstance(found, ScoreAnswer)
    assert (found.score, found.confidence) == (pytest.approx(1.3), 0.5)


def test_usage_is_the_sum_and_what_nobody_counts_is_nothing() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}
    summed = usage_of([answer(usage=usage), answer(usage=usage), answer()])
    assert (summed.input_tokens, summed.output_tokens, summed.total_tokens) == (20, 2, 22)
    assert summed.input_tokens_details.cached_tokens == 8


def test_json_of_an_input_has_bounds() -> None:
    def item(data: object) -> dict:
        return {"role": "user", "content": [{"type": "input_json", "data": data}]}

    deep: dict = {}
    for _ in range(60):
        deep = {"a": deep}
    for data in ("text", [1], deep, {"a": "x" * 300_000}, {"a": [0] * 60_000}):
        with pytest.raises(InvalidRequest) as caught:
            to_input(request(input=[item(data)]))
        assert caught.value.param == "input[0].content[0].data"
    question = {"type": "predicate", "instructions": [{"type": "input_json", "data": deep}]}
    with pytest.raises(InvalidRequest) as caught:
        to_input(request(question))
    assert caught.value.param == "questions[0].instructions[0].data"
    content = to_input(request(input=[item([{"a": 1}])])).chat["messages"][0]["content"]
    assert '[{"a":1}]' in (content if isinstance(content, str) else content[0]["text"])
