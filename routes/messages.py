"""Messages in Anthropic's shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.types import HTTPScope, Receive

from openai_compat.http.disconnect import attended
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming, sse
from schemas.anthropic import CountMessageTokensRequest, CreateMessageRequest, MessageTokens
from schemas.anthropic_answers import EVENTS, AnthropicError, AnthropicMessage

_OVERLOADED = (529,)
AnyRequest = Request[Any, Any, Any]


@runtime_checkable
class Desk(Protocol):
    """Asks for messages in the name of whoever made the request of ``scope``."""

    async def read(self, scope: HTTPScope, receive: Receive) -> CreateMessageRequest: ...

    async def whole(self, request: CreateMessageRequest, scope: HTTPScope) -> AnthropicMessage: ...

    def events(self, request: CreateMessageRequest, scope: HTTPScope) -> AsyncIterator[bytes]: ...

    async def count(self, scope: HTTPScope, receive: Receive) -> MessageTokens: ...


class MessageController(Controller):
    path = "/v1/messages"
    tags = ("Messages",)

    @post(
        status_code=200,
        operation_class=documented(
            CreateMessageRequest, AnthropicMessage, events=EVENTS, refuses=_OVERLOADED, failure=AnthropicError
        ),
    )
    async def create(
        self, request: AnyRequest, messages: NamedDependency[Desk], timing: NamedDependency[StreamTiming]
    ) -> Response[Any]:
        """Answer a conversation, as Anthropic's API does."""
        asked = await messages.read(request.scope, request.receive)
        if asked.stream:
            return await sse(messages.events(asked, request.scope), timing=timing)
        return Response(await attended(request, messages.whole(asked, request.scope)))

    @post(
        "/count_tokens",
        status_code=200,
        operation_class=documented(CountMessageTokensRequest, MessageTokens, refuses=_OVERLOADED, failure=AnthropicError),
    )
    async def count_tokens(self, request: AnyRequest, messages: NamedDependency[Desk]) -> MessageTokens:
        """Count the tokens of a conversation without answering it."""
        return await messages.count(request.scope, request.receive)
