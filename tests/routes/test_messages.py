"""The routes of Anthropic's messages, before a desk of their own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from openai_compat.app import given, plain
from openai_compat.errors import RateLimited
from openai_compat.http.errors import exception_handlers
from openai_compat.http.openapi import openapi_config
from openai_compat.http.sse import StreamTiming
from routes.messages import MessageController
from schemas.anthropic import CreateMessageRequest, MessageTokens
from schemas.anthropic_answers import AnthropicMessage, MessageUsage, SaidText
from schemas.decode import decode

BODY = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}


class Desk:
    refused = False

    async def read(self, scope: Any, receive: Any) -> CreateMessageRequest:
        return decode((await receive())["body"], CreateMessageRequest)

    async def whole(self, request: CreateMessageRequest, scope: Any) -> AnthropicMessage:
        usage = MessageUsage(input_tokens=1, output_tokens=1)
        return AnthropicMessage(id="msg_1", model=request.model, content=[SaidText(text="Hi")], usage=usage)

    async def events(self, request: CreateMessageRequest, scope: Any) -> AsyncIterator[bytes]:
        if request.model == "busy":
            raise RateLimited("Later.", retry_after=3)
        yield b"event: message_start\ndata: {}\n\n"
        yield b"event: message_stop\ndata: {}\n\n"

    async def count(self, scope: Any, receive: Any) -> MessageTokens:
        return MessageTokens(input_tokens=7)


@pytest.fixture
def client() -> Iterator[TestClient[Any]]:
    app = Litestar(
        [MessageController],
        dependencies={"messages": given(Desk()), "timing": given(StreamTiming())},
        exception_handlers=exception_handlers,
        openapi_config=openapi_config("1"),
        **plain(),
    )
    with TestClient(app) as client:
        yield client


def test_a_message_is_answered_whole(client: TestClient[Any]) -> None:
    answer = client.post("/v1/messages", json=BODY)
    assert (answer.status_code, answer.json()["content"]) == (200, [{"type": "text", "text": "Hi"}])


def test_or_as_events_that_are_sent_as_they_are(client: TestClient[Any]) -> None:
    answer = client.post("/v1/messages?beta=true", json={**BODY, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == "event: message_start\ndata: {}\n\nevent: message_stop\ndata: {}\n\n"


def test_a_refusal_before_the_first_event_has_its_own_status(client: TestClient[Any]) -> None:
    answer = client.post("/v1/messages", json={**BODY, "model": "busy", "stream": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


def test_tokens_are_counted(client: TestClient[Any]) -> None:
    assert client.post("/v1/messages/count_tokens", json=BODY).json() == {"input_tokens": 7}


def test_the_page_tells_bodies_events_and_errors(client: TestClient[Any]) -> None:
    document = client.get("/schema/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        responses = document["paths"][path]["post"]["responses"]
        for status in ("400", "401", "404", "413", "429", "500", "529"):
            assert responses[status]["content"]["application/json"]["schema"]["$ref"].endswith("/AnthropicError")
    references = set(json.dumps(document).split('"#/components/schemas/')[1:])
    assert {reference.partition('"')[0] for reference in references} <= set(schemas)
    assert {"CreateMessageRequest", "AnthropicMessage", "MessageStart", "BlockDelta"} <= set(schemas)
    assert "ErrorResponse" not in schemas
