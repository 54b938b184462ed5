"""Embeddings."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import embeddings
from openai_compat.worker.runner import Runner
from routes.answering import whole
from routes.files import decoded
from schemas.decode import decode
from schemas.embeddings import EmbeddingList, EmbeddingRequest


class EmbeddingController(Controller):
    path = "/v1/embeddings"
    tags = ("Embeddings",)

    @post(
        status_code=200,
        opt={"endpoint": Endpoint(request=EmbeddingRequest, plan=embeddings.plan, remote=embeddings.remote)},
        operation_class=documented(EmbeddingRequest, EmbeddingList),
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Turn texts, pictures or pairs of them into vectors."""
        wire = decode(body, EmbeddingRequest)
        items = embeddings.to_items(wire)
        domain = embeddings.to_request(wire, facts, items, await decoded(request, items.images, media, runner, facts))
        submit = partial(runner.submit, items.verb, domain, request_id=facts.request_id, deadline=facts.deadline)
        base64 = wire.encoding_format == "base64"
        return await whole(request, submit, partial(embeddings.to_response, model=facts.public_model, base64=base64))
