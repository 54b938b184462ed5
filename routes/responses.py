"""Responses: asked for, read again, gone on from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Protocol, runtime_checkable

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar import Response as Answer
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive
from msgspec import Meta, Struct

from openai_compat.errors import NotFound, UnsupportedCapability
from openai_compat.http.disconnect import attended
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming, sse
from routes.queries import owner_of, query_of
from schemas.common import Label
from schemas.conversations import ItemsQuery
from schemas.responses import CreateResponseRequest, InputTokensRequest
from schemas.responses_answer import Event, InputTokens, ItemList, Response, ResponseDeleted

_PATIENT = 86_400.0  # seconds: a stream is begun by the model's first word, never by a ping, so that a refusal has its status
AnyRequest = Request[Any, Any, Any]


class ResponseQuery(Struct, frozen=True, kw_only=True):
    """``starting_after`` is the number of the last event that the client has. Obfuscation is never added."""

    stream: bool = False
    starting_after: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    include_obfuscation: bool | None = None
    include: Annotated[list[Label], Meta(max_length=64)] | None = None


@runtime_checkable
class Desk(Protocol):
    """Has responses made and keeps them; to another key than ``owner`` they do not exist."""

    async def read(self, scope: HTTPScope, receive: Receive) -> Any: ...

    async def whole(self, order: Any) -> Response: ...

    def stream(self, order: Any) -> AsyncIterator[bytes]: ...

    async def put(self, order: Any) -> Response: ...

    async def put_and_stream(self, order: Any) -> AsyncIterator[bytes]: ...

    async def count(self, scope: HTTPScope, receive: Receive) -> InputTokens: ...

    async def get(self, id: str, owner: str) -> Response: ...

    async def events(self, id: str, owner: str, after: int) -> AsyncIterator[bytes]: ...

    async def cancel(self, id: str, owner: str) -> Response: ...

    async def delete(self, id: str, owner: str) -> ResponseDeleted: ...

    async def input_items(self, id: str, owner: str, query: ItemsQuery) -> ItemList: ...


class ResponseController(Controller):
    path = "/v1/responses"
    tags = ("Responses",)

    @post(status_code=200, operation_class=documented(CreateResponseRequest, Response, events=Event))
    async def create(
        self, request: AnyRequest, responses: NamedDependency[Desk], timing: NamedDependency[StreamTiming]
    ) -> Answer[Any]:
        """Ask a model, whole or as a stream of events, at once or in the background."""
        order = await responses.read(request.scope, request.receive)
        asked: CreateResponseRequest = order.request
        if asked.background:
            if asked.stream:
                return await sse(await responses.put_and_stream(order), timing=timing)
            return Answer(await responses.put(order))
        if asked.stream:
            return await sse(responses.stream(order), timing=msgspec.structs.replace(timing, first_byte_timeout=_PATIENT))
        return Answer(await attended(request, responses.whole(order)))

    @post("/input_tokens", status_code=200, operation_class=documented(InputTokensRequest, InputTokens))
    async def input_tokens(self, request: AnyRequest, responses: NamedDependency[Desk]) -> InputTokens:
        """How many tokens the input of a request would be."""
        return await responses.count(request.scope, request.receive)

    @post("/{name:str}", status_code=200, include_in_schema=False)
    async def others(self, name: FromPath[str]) -> None:
        """OpenAI's compaction is a sealed text that only its models can read."""
        if name == "compact":
            raise UnsupportedCapability(
                "Nothing is compacted here. Use 'truncation': 'auto', or send a summary as a message.", retry=False
            )
        raise NotFound("There is nothing to post to here.")

    @get("/{response_id:str}", operation_class=documented(None, Response, events=Event, query=ResponseQuery))
    async def retrieve(
        self,
        request: AnyRequest,
        responses: NamedDependency[Desk],
        timing: NamedDependency[StreamTiming],
        response_id: FromPath[str],
    ) -> Answer[Any]:
        """A response that was kept; one of the background also as a stream, from any event on."""
        query = query_of(request, ResponseQuery)
        if not query.stream:
            return Answer(await responses.get(response_id, owner_of(request)))
        after = -1 if query.starting_after is None else query.starting_after
        return await sse(await responses.events(response_id, owner_of(request), after), timing=timing)

    @delete("/{response_id:str}", status_code=200, operation_class=documented(None, ResponseDeleted))
    async def remove(
        self, request: AnyRequest, responses: NamedDependency[Desk], response_id: FromPath[str]
    ) -> ResponseDeleted:
        """Remove a response, finished or not."""
        return await responses.delete(response_id, owner_of(request))

    @post("/{response_id:str}/cancel", status_code=200, operation_class=documented(None, Response))
    async def cancel(self, request: AnyRequest, responses: NamedDependency[Desk], response_id: FromPath[str]) -> Response:
        """End a response of the background; one that has ended stays as it is."""
        return await responses.cancel(response_id, owner_of(request))

    @get("/{response_id:str}/input_items", operation_class=documented(None, ItemList, query=ItemsQuery))
    async def input_items(self, request: AnyRequest, responses: NamedDependency[Desk], response_id: FromPath[str]) -> ItemList:
        """What a response was asked with, the newest first."""
        return await responses.input_items(response_id, owner_of(request), query_of(request, ItemsQuery))
