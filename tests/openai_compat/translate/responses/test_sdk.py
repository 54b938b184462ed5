"""The SDK's own helpers put our streams together: they are stricter than its types about what comes after what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from openai_compat.translate.responses import Answering, frame

TOOLS = [
    {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "patch"},
]


class Place(BaseModel):
    city: str


def client(body: bytes, kind: str = "text/event-stream") -> openai.OpenAI:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers={"content-type": kind}, content=body))
    return openai.OpenAI(api_key="k", base_url="http://server.invalid/v1", http_client=httpx2.Client(transport=transport))


@pytest.fixture
def streamed(answering: Callable[..., Answering]) -> Callable[..., tuple[bytes, Answering]]:
    def make(*chunks: Any, **fields: Any) -> tuple[bytes, Answering]:
        machine = answering(**fields)
        events = [*machine.begin(), *(event for chunk in chunks for event in machine.add(chunk)), *machine.finish()]
        return b"".join(map(frame, events)), machine

    return make


def call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"index": index, "id": f"call_{index}", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("fields", [{}, {"reasoning": {"summary": "auto"}}, {"background": True}])
def test_the_sdk_puts_the_same_response_together(streamed, delta, fields) -> None:
    body, machine = streamed(
        delta(reasoning_content="Hm"),
        delta(reasoning_content="m."),
        delta(content="Hel"),
        delta(content="lo"),
        delta(refusal="No."),
        delta(tool_calls=[call(0, "look", '{"a"')]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        delta(tool_calls=[call(1, "patch", '{"input": "a\\nb"}')]),
        delta("tool_calls"),
        tools=TOOLS,
        **fields,
    )
    with client(body).responses.stream(model="m", input="Hello", tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert final.output_text == "Hello"
    assert final.output[2].arguments == '{"a": 1}'
    assert final.output[3].input == "a\nb"
    assert final.id == machine.response.id


def test_the_sdk_parses_what_has_a_schema(streamed, delta) -> None:
    body, _ = streamed(delta(content='{"city": '), delta(content='"Paris"}'), delta("stop"))
    with client(body).responses.stream(model="m", input="Hello", text_format=Place) as stream:
        assert stream.get_final_response().output_parsed == Place(city="Paris")


def test_the_sdk_reads_a_stream_without_help(streamed, delta) -> None:
    body, _ = streamed(delta(content="Hi"), delta("length"))
    events = list(client(body).responses.create(model="m", input="Hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


def test_the_sdk_reads_a_whole_answer(answered, whole) -> None:
    body = answered(whole(content="Hi")).response
    read = Response.model_validate(body)
    assert read.output_text == "Hi"
    assert read.usage is not None
    assert read.usage.output_tokens_details.reasoning_tokens == 2
