"""Moderation of texts."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.protocol import RelayFacts
from openai_compat.translate import moderations
from openai_compat.worker.runner import Runner
from routes.answering import stamp, whole
from schemas.decode import decode
from schemas.moderations import Moderation, ModerationRequest


class ModerationController(Controller):
    path = "/v1/moderations"
    tags = ("Moderations",)

    @post(
        status_code=200,
        opt={"endpoint": Endpoint(request=ModerationRequest, plan=moderations.plan)},
        operation_class=documented(ModerationRequest, Moderation),
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
    ) -> Response[Any]:
        """Tell in which categories of harm texts are."""
        domain = moderations.to_request(decode(body, ModerationRequest), facts)
        submit = partial(runner.submit, "classify_text", domain, request_id=facts.request_id, deadline=facts.deadline)
        meta = stamp(moderations.ID_PREFIX, facts)
        return await whole(request, submit, partial(moderations.to_response, meta=meta))
