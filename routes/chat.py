"""Chat completions."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import chat
from openai_compat.worker.runner import Runner
from routes.answering import stamp, streamed, whole
from schemas.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from schemas.decode import decode


class ChatController(Controller):
    path = "/v1/chat"
    tags = ("Chat",)

    @post(
        "/completions",
        status_code=200,
        opt={"endpoint": Endpoint(request=ChatCompletionRequest, plan=chat.plan)},
        operation_class=documented(ChatCompletionRequest, ChatCompletion, events=ChatCompletionChunk),
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Answer a chat, whole or as a stream of chunks."""
        wire = decode(body, ChatCompletionRequest)
        attachments = chat.attachments_to_decode(wire)
        decoded = await media.decode_together(attachments, rate=runner.handler.audio_rate)
        domain = chat.to_request(wire, facts, decoded)
        meta = stamp(chat.ID_PREFIX, facts)
        verb = chat.verb_of(attachments)
        submit = partial(runner.submit, verb, domain, request_id=facts.request_id, deadline=facts.deadline)
        if domain.stream:
            return await streamed(submit, chat.ChatStream.of(wire, meta), timing)
        return await whole(request, submit, partial(chat.to_response, meta=meta))
