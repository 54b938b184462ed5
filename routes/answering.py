"""How a route answers with text, whole or streamed; the only difference between the routes is their pair of translations."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol

from litestar import Request, Response
from msgspec import Struct

from handlers.types import Delta, SightResult, TextDelta, TextResult
from openai_compat.http.disconnect import answer
from openai_compat.http.sse import StreamTiming, sse
from openai_compat.protocol import RelayFacts
from openai_compat.translate.common import Meta
from openai_compat.worker.job import Job

Submit = Callable[[], Job]
"""Queues the request: called only once somebody waits for the answer."""
Words = Callable[[SightResult], TextResult]
"""Says in words what a model saw."""


class Events(Protocol):
    """Makes the framed events of one streamed answer."""

    def deltas(self, batch: Iterable[Delta]) -> bytes: ...

    def finish(self, result: Any) -> bytes: ...


def stamp(prefix: str, facts: RelayFacts) -> Meta:
    """A new id, the time, and the name by which the client knows the model."""
    return Meta(id=f"{prefix}-{uuid.uuid4().hex}", created=int(time.time()), model=facts.public_model)


async def whole(
    request: Request[Any, Any, Any], submit: Submit, to_response: Callable[[Any], Struct], words: Words | None = None
) -> Response[Any]:
    result: Any = await answer(request, submit())
    if words is not None and isinstance(result, SightResult):
        result = await asyncio.to_thread(words, result)
    return Response(to_response(result))


async def streamed(submit: Submit, stream: Events, timing: StreamTiming, words: Words | None = None) -> Response[Any]:
    return await sse(_events(submit, stream, words), timing=timing)


async def _events(submit: Submit, stream: Events, words: Words | None) -> AsyncIterator[bytes]:
    job = submit()
    try:
        async for batch in job.batches():
            if events := stream.deltas(batch):
                yield events
        result: Any = await job.result()
        if words is not None and isinstance(result, SightResult):
            result = await asyncio.to_thread(words, result)
            yield stream.deltas([TextDelta(index=choice.index, text=choice.text) for choice in result.choices])
        yield stream.finish(result)
    finally:
        job.cancel()
