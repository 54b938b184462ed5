"""What the models are doing, as it happens: loading and how far, ready, gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import msgspec
from litestar import Controller, get
from litestar.di import NamedDependency
from sse_starlette import EventSourceResponse, ServerSentEvent

from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming, event_source
from schemas.models import ModelEvent


@runtime_checkable
class Happenings(Protocol):
    """Where the events come from; the gateway's pool stands behind it."""

    def events(self) -> AsyncIterator[ModelEvent]:
        """The state of every model, then each change."""


class EventController(Controller):
    """In the shape of llama.cpp's server, whose clients (Open WebUI among them) show it."""

    path = "/models/sse"
    tags = ("Models",)

    @get(operation_class=documented(None, ModelEvent, events=ModelEvent), sync_to_thread=False)
    def stream(self, happenings: NamedDependency[Happenings], timing: NamedDependency[StreamTiming]) -> EventSourceResponse:
        """Follow the models' states."""
        return event_source(_framed(happenings.events()), timing=timing)


async def _framed(events: AsyncIterator[ModelEvent]) -> AsyncIterator[ServerSentEvent]:
    async for event in events:
        yield ServerSentEvent(msgspec.json.encode(event).decode())
