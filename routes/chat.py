"""Chat completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from handlers.types import Request as DomainRequest
from handlers.types import Verb
from openai_compat.http.disconnect import answer
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming, sse
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import chat, chat_pictures
from openai_compat.translate.common import Meta
from openai_compat.translate.findings import worded
from openai_compat.worker.runner import Runner
from routes.answering import Submit, stamp, streamed, whole
from routes.files import decoded
from routes.pictures import encoded, progress_of
from schemas.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from schemas.decode import decode


class ChatController(Controller):
    path = "/v1/chat"
    tags = ("Chat",)

    @post(
        "/completions",
        status_code=200,
        opt={"endpoint": Endpoint(request=ChatCompletionRequest, plan=chat.plan, remote=chat.remote)},
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
        found = await decoded(request, attachments, media, runner, facts)
        verb, meta = chat.verb_of(attachments), stamp(chat.ID_PREFIX, facts)
        if chat_pictures.paints(wire, facts, verb, runner.capabilities):
            painting = chat_pictures.to_request(wire, facts, found)
            return await _painted(request, wire, _submit(runner, "generate_image", painting, facts), meta, timing)
        domain = chat.to_request(wire, facts, found)
        submit, words = _submit(runner, verb, domain, facts), partial(worded, model=meta.model)
        if domain.stream:
            return await streamed(submit, chat.ChatStream.of(wire, meta), timing, words)
        return await whole(request, submit, partial(chat.to_response, meta=meta), words)


def _submit(runner: Runner, verb: Verb, domain: DomainRequest, facts: RelayFacts) -> Submit:
    return partial(runner.submit, verb, domain, request_id=facts.request_id, deadline=facts.deadline)


async def _painted(
    request: Request[Any, Any, Any], wire: ChatCompletionRequest, submit: Submit, meta: Meta, timing: StreamTiming
) -> Response[Any]:
    if wire.stream:
        return await sse(_events(submit, chat_pictures.PictureChunks(wire, meta)), timing=timing)
    result: Any = await answer(request, submit())
    files = [await encoded(picture) for picture in result.pictures]
    return Response(chat_pictures.to_response(result, files, meta))


async def _events(submit: Submit, chunks: chat_pictures.PictureChunks) -> AsyncGenerator[bytes, None]:
    job = submit()
    try:
        async for batch in job.batches():
            if line := progress_of(batch):
                yield line
        result: Any = await job.result()
        for index, picture in enumerate(result.pictures):
            yield chunks.picture(index, await encoded(picture))
        yield chunks.finish(result)
    finally:
        job.cancel()
