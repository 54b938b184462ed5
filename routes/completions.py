"""Legacy completions."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import RelayFacts
from openai_compat.translate import completions
from openai_compat.worker.runner import Runner
from routes.answering import stamp, streamed, whole
from schemas.completions import Completion, CompletionRequest
from schemas.decode import decode


class CompletionController(Controller):
    path = "/v1/completions"
    tags = ("Completions",)

    @post(
        status_code=200,
        opt={"endpoint": Endpoint(request=CompletionRequest, plan=completions.plan)},
        operation_class=documented(CompletionRequest, Completion, events=Completion),
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
    ) -> Response[Any]:
        """Continue prompts, whole or as a stream."""
        wire = decode(body, CompletionRequest)
        domain = completions.to_request(wire, facts)
        meta = stamp(completions.ID_PREFIX, facts)
        submit = partial(runner.submit, "generate_text", domain, request_id=facts.request_id, deadline=facts.deadline)
        if domain.stream:
            return await streamed(submit, completions.CompletionStream.of(wire, meta), timing)
        return await whole(request, submit, partial(completions.to_response, meta=meta))
