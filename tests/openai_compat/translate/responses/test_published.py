"""Every event and every snapshot keeps to OpenAI's published schema, and is read by the SDK's own types without a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openai import BaseModel
from openai.types.conversations import ConversationItem
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent, response_create_params
from pydantic import TypeAdapter

from openai_compat.errors import APIError, InvalidRequest, RateLimited, WorkerDied
from openai_compat.translate.responses import read_items
from schemas.responses import CreateResponseRequest

PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())
SCHEMAS = PUBLISHED["components"]["schemas"]
NAMES = {
    schema["properties"]["type"]["enum"][0]: name
    for name, schema in SCHEMAS.items()
    if name.endswith("Event") and "type" in schema.get("properties", {})
}
EVENTS = TypeAdapter(ResponseStreamEvent)
OURS = {"store", "presence_penalty", "frequency_penalty"}
"""Keys of a response that the SDK has no field for. OpenAI's own answers have them."""
UNSAID = {"$.response.usage: None is not of type 'object'", "$.usage: None is not of type 'object'"}
"""The published schema knows no null here, but OpenAI sends it until the end, and strict clients want the key."""

TOOLS = [
    {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}},
    {"type": "namespace", "name": "files", "description": "", "tools": [{"type": "function", "name": "list"}]},
    {"type": "web_search"},
]
EVERYTHING: dict[str, Any] = {
    "instructions": "Be brief.",
    "tools": TOOLS,
    "tool_choice": {"type": "function", "name": "look"},
    "parallel_tool_calls": False,
    "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}, "verbosity": "low"},
    "max_output_tokens": 20,
    "max_tool_calls": 2,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_logprobs": 2,
    "truncation": "auto",
    "metadata": {"a": "b"},
    "user": "u",
    "safety_identifier": "s",
    "service_tier": "flex",
    "prompt_cache_key": "k",
    "previous_response_id": "resp_0",
}
TOKEN = {"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "b", "logprob": -9999, "bytes": [98]}]}


def problems(value: Any, name: str) -> list[str]:
    document = {"$ref": f"#/components/schemas/{name}", "components": PUBLISHED["components"]}
    found = {f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(document).iter_errors(value)}
    return sorted(found - UNSAID)


def extras(model: Any) -> set[str]:
    """Keys for which the SDK has no field, at any depth."""
    if isinstance(model, list):
        return set().union(*map(extras, model)) if model else set()
    if not isinstance(model, BaseModel):
        return set()
    inner = [extras(value) for value in dict(model).values()]
    return set(model.model_extra or ()).union(*inner)


def check(events: list[dict[str, Any]]) -> None:
    for number, event in enumerate(events):
        assert problems(event, NAMES[event["type"]]) == []
        assert event["sequence_number"] == number
        read = EVENTS.validate_json(json.dumps(event), strict=True)
        assert read.type == event["type"]
        assert json.loads(read.to_json()) == event


def speech(delta: Any) -> list[Any]:
    return [
        delta(role="assistant", content=""),
        delta(reasoning_content="Let me"),
        delta(reasoning_content=" think"),
        delta(content="Hel", logprobs={"content": [TOKEN]}),
        delta(content="lo", logprobs={"content": [TOKEN, TOKEN]}),
        delta(refusal="No"),
        delta(refusal=" more"),
        delta(tool_calls=[{"index": 0, "id": "call_1", "function": {"name": "look", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]),
        delta(tool_calls=[{"index": 1, "id": "call_2", "function": {"name": "patch", "arguments": '{"input": "x'}}]),
        delta(tool_calls=[{"index": 1, "function": {"arguments": '\\ny"}'}}]),
        delta(tool_calls=[{"index": 2, "id": "call_3", "function": {"name": "files__list", "arguments": "{}"}}]),
    ]


@pytest.mark.parametrize(
    "fields", [{"tools": TOOLS}, EVERYTHING, {"tools": TOOLS, "background": True}], ids=["little", "everything", "background"]
)
@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
def test_every_event_of_an_answer_of_all_kinds_is_what_openai_published(answered, delta, fields, finish) -> None:
    result = answered(*speech(delta), delta(finish), **fields)
    check(result.events)
    assert {NAMES[event["type"]] for event in result.events} >= {
        "ResponseTextDeltaEvent",
        "ResponseRefusalDoneEvent",
        "ResponseFunctionCallArgumentsDoneEvent",
        "ResponseCustomToolCallInputDoneEvent",
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (APIError("It broke."), "server_error"),
        (WorkerDied("It died."), "server_error"),
        (RateLimited("Wait."), "rate_limit_exceeded"),
        (InvalidRequest("No.", param="input"), "invalid_prompt"),
        (InvalidRequest("No.", code="invalid_image_url"), "invalid_image_url"),
        (InvalidRequest("No.", code="made_up"), "invalid_prompt"),
    ],
)
def test_a_failure_has_one_of_the_published_codes(answering, shown, delta, error, code) -> None:
    machine = answering()
    events = [*machine.begin(), *machine.add(delta(content="Hel")), *machine.fail(error)]
    result = shown(events, machine)
    check(result.events)
    assert result.events[-1]["response"]["error"] == {"code": code, "message": error.message}
    assert result.output[0]["status"] == "incomplete"


@pytest.mark.parametrize("fields", [{}, EVERYTHING])
def test_a_whole_answer_is_what_the_sdk_s_type_says(answered, whole, fields) -> None:
    body = answered(whole(content="Hello"), **fields).response
    assert problems(body, "Response") == []
    read = Response.model_validate_json(json.dumps(body), strict=True)
    assert read.output_text == "Hello"
    assert extras(read) <= OURS


def test_a_custom_call_s_status_is_all_that_items_have_beyond_the_sdk_s_types(answered, delta) -> None:
    read = Response.model_validate(answered(*speech(delta), **EVERYTHING).response)
    assert extras(read) - OURS == {"status"}
    assert all(item.status == "completed" for item in read.output)


ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "a"},
    {"role": "developer", "content": [{"type": "input_image", "image_url": "data:,x"}]},
    {"role": "assistant", "content": "a", "phase": "commentary"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "a"}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": None, "namespace": "n"},
    {"type": "function_call_output", "call_id": "c", "output": {"a": 1}},
    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "a"}]},
    {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "a"},
    {"type": "custom_tool_call_output", "call_id": "c", "output": "a"},
    {"type": "reasoning", "summary": None, "content": [{"text": "a"}], "encrypted_content": "a"},
]


@pytest.mark.parametrize("kind", [ResponseItem, ConversationItem])
@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.get("type", item.get("role")))
def test_items_as_they_are_listed_are_the_sdk_s(item, kind) -> None:
    (read,) = read_items([item])
    model = TypeAdapter(kind).validate_json(json.dumps(read), strict=True)
    assert extras(model) <= {"status"}
    assert model.type == read["type"]


def test_every_published_event_that_chats_can_bring_about_comes_about(answered, answering, shown, delta) -> None:
    failed, asleep = answering(), answering(background=True)
    results = [
        answered(*speech(delta), delta("stop"), tools=TOOLS),
        answered(*speech(delta), delta("length"), reasoning={"summary": "auto"}),
        shown([*failed.begin(), *failed.fail(APIError("It broke."))], failed),
        shown([*asleep.begin(), *asleep.proceed()], asleep),
    ]
    assert {event["type"] for result in results for event in result.events} == set(NAMES)


def test_every_key_of_a_request_that_the_sdk_or_the_schema_knows_is_read() -> None:
    known = set(response_create_params.ResponseCreateParamsBase.__annotations__) | set(
        PUBLISHED["request_keys"]["CreateResponse"]
    )
    assert known - set(CreateResponseRequest.__struct_fields__) == set()


def test_a_snapshot_has_every_key_in_each_state(answering, delta) -> None:
    machine = answering(background=True)
    events = [*machine.begin(), *machine.add(delta(content="a")), *machine.finish()]
    bodies = [json.loads(msgspec.json.encode(event.response)) for event in events if event.type.count(".") == 1]
    assert [body["status"] for body in bodies] == ["queued", "queued", "in_progress", "completed"]
    assert len({tuple(body) for body in bodies}) == 1
    first = bodies[0]
    assert first["output"] == []
    assert (first["error"], first["incomplete_details"], first["usage"], first["completed_at"]) == (None,) * 4
    assert first["background"] is True
    assert bodies[-1]["completed_at"] == 1_790_000_001
    assert "output_text" not in first
