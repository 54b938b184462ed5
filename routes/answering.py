"""How a text route answers, whole or streamed; the only difference between the routes is their pair of translations."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from litestar import Request, Response
from msgspec import Struct

from handlers.types import TextRequest, TextResult, Verb
from openai_compat.http.disconnect import answer
from openai_compat.http.sse import StreamTiming, sse
from openai_compat.protocol import RelayFacts
from openai_compat.translate.common import Meta
from openai_compat.translate.stream import TextStream
from openai_compat.worker.job import Job
from openai_compat.worker.runner import Runner


def stamp(prefix: str, facts: RelayFacts) -> Meta:
    """A new id, the time, and the name by which the client knows the model."""
    return Meta(id=f"{prefix}-{uuid.uuid4().hex}", created=int(time.time()), model=facts.public_model)


class TextJob(Struct, frozen=True, kw_only=True):
    """A text request on its way to the model; nothing runs before one of the two is awaited."""

    runner: Runner
    facts: RelayFacts
    verb: Verb
    request: TextRequest

    async def whole(self, request: Request[Any, Any, Any], to_response: Callable[[TextResult], Struct]) -> Response[Any]:
        result = await answer(request, self._submit())
        return Response(to_response(cast(TextResult, result)))

    async def streamed(self, stream: TextStream, timing: StreamTiming) -> Response[Any]:
        return await sse(self._events(stream), timing=timing)

    async def _events(self, stream: TextStream) -> AsyncIterator[bytes]:
        job = self._submit()
        try:
            async for batch in job.batches():
                if events := stream.deltas(batch):
                    yield events
            yield stream.finish(cast(TextResult, await job.result()))
        finally:
            job.cancel()

    def _submit(self) -> Job:
        return self.runner.submit(self.verb, self.request, request_id=self.facts.request_id, deadline=self.facts.deadline)
