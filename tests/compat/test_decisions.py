"""Decisions by the openai Python package, unchanged, and the real model; the scripted one where an answer must be known."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import openai
import pytest

TICKET = "I was charged twice for my subscription last month and want my money back!"
TYPES: Any = {
    "type": "choice",
    "name": "topic",
    "instructions": "What is this message about?",
    "choices": [{"value": "billing", "description": "payments"}, {"value": "weather"}, {"value": True}, {"value": "true"}],
}
PREDICATE: Any = {"type": "predicate", "instructions": "The customer asks for a refund.", "name": "refund"}
SCORE: Any = {
    "type": "score",
    "instructions": [
        {"type": "input_text", "text": "How angry is the customer? "},
        {"type": "input_json", "data": {"scale": "anger"}},
    ],
    "levels": [{"label": "calm"}, {"label": "annoyed"}, {"label": "furious", "description": "shouting"}],
}


def test_questions_of_all_types_are_answered_in_order(client: openai.OpenAI, model: str) -> None:
    decision = client.decisions.create(model=model, input=TICKET, questions=[PREDICATE, TYPES, SCORE])
    refund, topic, anger = decision.answers
    assert (refund.type, refund.name) == ("predicate", "refund")
    assert 0 < refund.probability < 1
    assert (topic.type, topic.name) == ("choice", "topic")
    assert [entry.value for entry in topic.probabilities] == ["billing", "weather", True, "true"]
    assert [type(entry.value) for entry in topic.probabilities] == [str, str, bool, str]
    assert sum(entry.probability for entry in topic.probabilities) == pytest.approx(1)
    best = max(topic.probabilities, key=lambda entry: entry.probability)
    assert (topic.choice, topic.confidence) == (best.value, best.probability)
    assert (anger.type, anger.name) == ("score", None)
    assert [(entry.value, entry.label) for entry in anger.probabilities] == [(0, "calm"), (1, "annoyed"), (2, "furious")]
    assert sum(entry.probability for entry in anger.probabilities) == pytest.approx(1)
    assert anger.score == pytest.approx(sum(entry.value * entry.probability for entry in anger.probabilities))
    assert decision.model == model
    assert decision.usage.output_tokens == 6
    assert decision.usage.total_tokens == decision.usage.input_tokens + 6
    assert decision.usage.input_tokens_details.cached_tokens > 0


def test_the_same_question_gets_the_same_answer_and_an_option_s_place_does_not_matter(
    client: openai.OpenAI, model: str
) -> None:
    options = [{"value": "billing"}, {"value": "weather"}]
    ask: Any = {"type": "choice", "instructions": "What is this message about?"}
    forward = client.decisions.create(model=model, input=TICKET, questions=[{**ask, "choices": options}] * 2).answers
    backward = client.decisions.create(model=model, input=TICKET, questions=[{**ask, "choices": options[::-1]}]).answers
    shares = [{entry.value: entry.probability for entry in answer.probabilities} for answer in (*forward, *backward)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-4)
    assert shares[0] == pytest.approx(shares[2], abs=1e-4)


def test_more_options_than_a_chat_tells_of_sum_to_one_too(client: openai.OpenAI, model: str) -> None:
    choices: Any = [{"value": f"colour {i}"} for i in range(45)]
    question: Any = {"type": "choice", "instructions": "Which colour?", "choices": choices}
    (answer,) = client.decisions.create(model=model, input="My favourite is colour 31.", questions=[question]).answers
    assert [entry.value for entry in answer.probabilities] == [choice["value"] for choice in choices]
    assert sum(entry.probability for entry in answer.probabilities) == pytest.approx(1)
    assert all(entry.probability > 0 for entry in answer.probabilities)


def test_a_conversation_with_tools_and_json_is_an_input(client: openai.OpenAI, model: str) -> None:
    items: Any = [
        {"role": "system", "content": "You are a shop."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Order:"}, {"type": "input_json", "data": [{"item": "tea"}]}],
        },
        {"type": "function_call", "call_id": "c1", "name": "stock", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "none left"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sorry."}]},
    ]
    decision = client.decisions.create(model=model, input=items, questions=[PREDICATE])
    assert decision.answers[0].type == "predicate"


def test_a_model_that_answers_with_something_else_declines_that_question_alone(client: openai.OpenAI) -> None:
    script: Any = {"type": "predicate", "instructions": "[[answer=A]]", "name": "told"}
    told, untold = client.decisions.create(model="echo", input="x", questions=[script, PREDICATE]).answers
    assert (told.type, told.name) == ("predicate", "told")
    assert told.probability == pytest.approx(0.5)  # the first letter in both orders
    assert (untold.type, untold.name) == ("refusal", "refund")


def test_many_questions_and_many_clients_at_once(server: Any, model: str) -> None:
    async def ask() -> list[int]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
            asked = [client.decisions.create(model="echo", input="x", questions=[PREDICATE] * 40) for _ in range(5)]
            return [len(decision.answers) for decision in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [40] * 5


def question(**fields: Any) -> dict[str, Any]:
    return {"model": "echo", "input": "x", "questions": [{**PREDICATE, **fields}]}


OPTIONS = [{"value": "a"}, {"value": "b"}]
OUTPUT = {"type": "function_call_output", "call_id": "c9", "output": "x"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": "echo", "input": "x"}, "questions"),
    ({"model": "echo", "questions": [PREDICATE]}, "input"),
    ({"model": "echo", "input": [], "questions": [PREDICATE]}, "input"),
    ({"model": "echo", "input": 7, "questions": [PREDICATE]}, "input"),
    ({"model": "echo", "input": [7], "questions": [PREDICATE]}, "input[0]"),
    ({"model": "echo", "input": [{"role": "king", "content": "x"}], "questions": [PREDICATE]}, "input[0].role"),
    ({"model": "echo", "input": [{"role": "user", "content": "x"}, OUTPUT], "questions": [PREDICATE]}, "input[1].call_id"),
    ({"model": "echo", "input": [{"role": "user", "content": [{"type": "input_json", "data": 7}]}], "questions": [PREDICATE]},
     "input[0].content[0].data"),
    ({"model": "echo", "input": "x", "questions": []}, "questions"),
    ({"model": "echo", "input": "x", "questions": [PREDICATE] * 401}, "questions"),
    (question(type="essay"), "questions[0].type"),
    (question(instructions=None), "questions[0].instructions"),
    (question(instructions=[]), "questions[0].instructions"),
    (question(instructions=[{"type": "input_sound"}]), "questions[0].instructions[0].type"),
    (question(instructions=[{"type": "input_json", "data": 7}]), "questions[0].instructions[0].data"),
    (question(name="n" * 257), "questions[0].name"),
    (question(type="choice"), "questions[0].choices"),
    (question(type="choice", choices=OPTIONS[:1]), "questions[0].choices"),
    (question(type="choice", choices=OPTIONS * 128), "questions[0].choices"),
    (question(type="choice", choices=[*OPTIONS, {"value": "a"}]), "questions[0].choices[2].value"),
    (question(type="choice", choices=[{"value": True}, {"value": True}]), "questions[0].choices[1].value"),
    (question(type="choice", choices=[{"value": 1}, {"value": 2}]), "questions[0].choices[0].value"),
    (question(type="score", levels=[{"label": "a"}]), "questions[0].levels"),
    (question(type="score", levels=[{"label": "a"}, {"label": "a"}]), "questions[0].levels[1].label"),
    (question(type="score", levels=[{"label": "a"}, {}]), "questions[0].levels[1].label"),
    ({"model": "echo", "input": "x", "questions": [
        {"type": "choice", "instructions": "?", "choices": [{"value": str(i)} for i in range(255)]}] * 40}, "questions"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_what_is_wrong_is_named(http: httpx2.Client, body: dict[str, Any], param: str) -> None:
    answer = http.post("/v1/decisions", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


NONSENSE = {"type": "input_image", "image_url": "nonsense"}
SEEN = {"input": [{"role": "user", "content": [NONSENSE]}]}
ASKED = {"questions": [PREDICATE, {**PREDICATE, "instructions": [NONSENSE]}]}


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        (SEEN, 400, "input[0].content[0].image_url"),
        (ASKED, 400, "questions[1].instructions"),
        ({"input": "word " * 9000}, 400, "input"),
    ],
)
def test_what_only_the_model_s_chat_can_tell_is_named_too(
    http: httpx2.Client, model: str, fields: dict[str, Any], status: int, param: str
) -> None:
    answer = http.post("/v1/decisions", json={"model": model, "input": "x", "questions": [PREDICATE], **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_client_that_leaves_ends_the_model_s_work(http: httpx2.Client) -> None:
    slow = {"type": "predicate", "instructions": "[[first_delay=60]]"}
    with pytest.raises(httpx2.ReadTimeout):
        http.post("/v1/decisions", json={"model": "echo", "input": "x", "questions": [slow] * 9}, timeout=1)
    quick = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    assert http.post("/v1/chat/completions", json=quick, timeout=40).status_code == 200
