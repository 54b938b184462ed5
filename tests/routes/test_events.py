"""The stream of the models' states, served by sse-starlette inside litestar."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from litestar import Litestar
from litestar.testing import TestClient

from openai_compat.app import given
from openai_compat.http.sse import StreamTiming
from routes.events import EventController
from schemas.models import LoadProgress, ModelEvent, ModelStatus


class Loading:
    async def events(self) -> AsyncIterator[ModelEvent]:
        progress = LoadProgress(stages=("reading the weights",), current="reading the weights", value=0.5)
        yield ModelEvent(model="small", data=ModelStatus(status="loading", progress=progress))
        yield ModelEvent(model="small", data=ModelStatus(status="loaded"))


def test_each_change_is_an_event_in_the_shape_of_llama_cpp() -> None:
    dependencies = {"happenings": given(Loading()), "timing": given(StreamTiming())}
    with TestClient(Litestar([EventController], dependencies=dependencies, logging_config=None)) as client:
        answer = client.get("/models/sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[0] == {
        "model": "small",
        "event": "model_status",
        "data": {
            "status": "loading",
            "progress": {"stages": ["reading the weights"], "current": "reading the weights", "value": 0.5},
        },
    }
    assert events[1]["data"] == {"status": "loaded"}
