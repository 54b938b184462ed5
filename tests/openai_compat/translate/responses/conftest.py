"""Requests, chunks and answers, written as clients and servers write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from openai_compat.translate.responses import Answering, Event, Turn, frame, read_items, to_turn
from schemas.answers import ReadAnswer
from schemas.decode import decode
from schemas.responses import CreateResponseRequest

_read = msgspec.json.Decoder(ReadAnswer, strict=False)


class Shown:
    """What came of a stream: the events as a client reads them, and the response at the end."""

    def __init__(self, events: list[Event], answering: Answering) -> None:
        self.events = [json.loads(frame(event).partition(b"\ndata: ")[2]) for event in events]
        self.response = json.loads(msgspec.json.encode(answering.response))
        self.types = [event["type"].removeprefix("response.") for event in self.events]

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == f"response.{type}"]

    def deltas(self, type: str) -> str:
        return "".join(event["delta"] for event in self.of(f"{type}.delta"))

    @property
    def output(self) -> list[dict[str, Any]]:
        return self.response["output"]


@pytest.fixture
def asked() -> Callable[..., CreateResponseRequest]:
    def make(**fields: Any) -> CreateResponseRequest:
        return decode(json.dumps({"model": "m", "input": "Hello", **fields}).encode(), CreateResponseRequest)

    return make


@pytest.fixture
def turned(asked: Callable[..., CreateResponseRequest]) -> Callable[..., Turn]:
    """The chat that a request becomes."""

    def make(**fields: Any) -> Turn:
        request = asked(**fields)
        return to_turn(request, [], read_items(request.input))

    return make


@pytest.fixture
def delta() -> Callable[..., ReadAnswer]:
    """A chunk of a chat."""

    def make(finish: str | None = None, *, logprobs: Any = None, usage: Any = None, **said: Any) -> ReadAnswer:
        choice = {"index": 0, "delta": said, "finish_reason": finish, "logprobs": logprobs}
        return _read.decode(json.dumps({"choices": [choice], "usage": usage}))

    return make


@pytest.fixture
def answering(asked: Callable[..., CreateResponseRequest]) -> Callable[..., Answering]:
    def make(**fields: Any) -> Answering:
        request = asked(**fields)
        turn = to_turn(request, [], read_items(request.input))
        return Answering(request, turn, id="resp_1", created=1_790_000_000, clock=lambda: 1_790_000_001.5)

    return make


@pytest.fixture
def answered(answering: Callable[..., Answering]) -> Callable[..., Shown]:
    """A whole stream: its chunks, and what the client asked for."""

    def make(*chunks: ReadAnswer, **fields: Any) -> Shown:
        machine = answering(**fields)
        events = machine.begin()
        for chunk in chunks:
            events += machine.add(chunk)
        return Shown([*events, *machine.finish()], machine)

    return make


@pytest.fixture
def shown() -> type[Shown]:
    return Shown


@pytest.fixture
def whole() -> Callable[..., ReadAnswer]:
    """A chat's answer in one piece."""

    def make(finish: str = "stop", *, logprobs: Any = None, **said: Any) -> ReadAnswer:
        message = {"role": "assistant", "content": None, **said}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
        usage = {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
        return _read.decode(json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}))

    return make
