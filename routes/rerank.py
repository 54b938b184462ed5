"""Ranking of documents by a query."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.protocol import RelayFacts
from openai_compat.translate import rerank
from openai_compat.worker.runner import Runner
from routes.answering import stamp, whole
from schemas.decode import decode
from schemas.rerank import Rerank, RerankRequest


class RerankController(Controller):
    """Cohere's newer client asks at ``/v2``, everybody else at ``/v1``."""

    tags = ("Rerank",)

    @post(
        ["/v1/rerank", "/v2/rerank"],
        status_code=200,
        opt={"endpoint": Endpoint(request=RerankRequest, plan=rerank.plan)},
        operation_class=documented(RerankRequest, Rerank),
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
    ) -> Response[Any]:
        """Sort documents by how well they answer a query."""
        wire = decode(body, RerankRequest)
        domain = rerank.to_request(wire, facts)
        submit = partial(runner.submit, "rank_text", domain, request_id=facts.request_id, deadline=facts.deadline)
        meta = stamp(rerank.ID_PREFIX, facts)
        return await whole(request, submit, partial(rerank.to_response, body=wire, meta=meta))
