"""Texts and chats as tokens, and tokens as text."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from handlers.types import TokenRequest
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import tokenize
from openai_compat.worker.runner import Runner
from routes.answering import Submit, whole
from routes.files import decoded
from schemas.decode import decode
from schemas.tokenize import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

_TO_TOKENS = Endpoint(request=TokenizeRequest, plan=tokenize.plan, remote=tokenize.remote, local=True)
_TO_TEXT = Endpoint(request=DetokenizeRequest, plan=tokenize.plan_back, local=True)


class TokenizeController(Controller):
    """vLLM and llama.cpp have these routes beside ``/v1``, other clients look for them below it."""

    tags = ("Tokens",)

    @post(
        ["/tokenize", "/v1/tokenize"],
        status_code=200,
        opt={"endpoint": _TO_TOKENS},
        operation_class=documented(TokenizeRequest, Tokenized),
    )
    async def tokenize(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Turn a text or a chat into the model's tokens, and count them."""
        wire = decode(body, TokenizeRequest)
        found = await decoded(request, tokenize.attachments_to_decode(wire), media, runner, facts)
        submit = _submit(runner, tokenize.to_request(wire, facts, found), facts)
        return await whole(request, submit, partial(tokenize.to_response, body=wire))

    @post(
        ["/detokenize", "/v1/detokenize"],
        status_code=200,
        opt={"endpoint": _TO_TEXT},
        operation_class=documented(DetokenizeRequest, Detokenized),
    )
    async def detokenize(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
    ) -> Response[Any]:
        """Turn tokens back into text."""
        wire = decode(body, DetokenizeRequest)
        return await whole(request, _submit(runner, tokenize.to_request_back(wire), facts), tokenize.to_response_back)


def _submit(runner: Runner, domain: TokenRequest, facts: RelayFacts) -> Submit:
    return partial(runner.submit, "tokenize_text", domain, request_id=facts.request_id, deadline=facts.deadline)
