"""Conversations: made, added to, read and removed."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive

from openai_compat.http.openapi import documented
from routes.queries import owner_of, query_of
from schemas.conversations import (
    Conversation,
    ConversationDeleted,
    CreateConversationRequest,
    CreateItemsRequest,
    ItemsQuery,
    UpdateConversationRequest,
)
from schemas.responses_answer import ItemList

AnyRequest = Request[Any, Any, Any]


@runtime_checkable
class Desk(Protocol):
    """Keeps conversations; to another key than ``owner`` they do not exist."""

    async def create(self, scope: HTTPScope, receive: Receive) -> Conversation: ...

    async def get(self, id: str, owner: str) -> Conversation: ...

    async def update(self, id: str, scope: HTTPScope, receive: Receive) -> Conversation: ...

    async def delete(self, id: str, owner: str) -> ConversationDeleted: ...

    async def add_items(self, id: str, scope: HTTPScope, receive: Receive) -> ItemList: ...

    async def items(self, id: str, owner: str, query: ItemsQuery) -> ItemList: ...

    async def item(self, id: str, item: str, owner: str) -> dict[str, Any]: ...

    async def delete_item(self, id: str, item: str, owner: str) -> Conversation: ...


class ConversationController(Controller):
    path = "/v1/conversations"
    tags = ("Conversations",)

    @post(status_code=200, operation_class=documented(CreateConversationRequest, Conversation))
    async def create(self, request: AnyRequest, conversations: NamedDependency[Desk]) -> Conversation:
        """Begin a conversation, with items or without."""
        return await conversations.create(request.scope, request.receive)

    @get("/{conversation_id:str}", operation_class=documented(None, Conversation))
    async def retrieve(
        self, request: AnyRequest, conversations: NamedDependency[Desk], conversation_id: FromPath[str]
    ) -> Conversation:
        """A conversation without its items."""
        return await conversations.get(conversation_id, owner_of(request))

    @post("/{conversation_id:str}", status_code=200, operation_class=documented(UpdateConversationRequest, Conversation))
    async def update(
        self, request: AnyRequest, conversations: NamedDependency[Desk], conversation_id: FromPath[str]
    ) -> Conversation:
        """Give a conversation other metadata."""
        return await conversations.update(conversation_id, request.scope, request.receive)

    @delete("/{conversation_id:str}", status_code=200, operation_class=documented(None, ConversationDeleted))
    async def remove(
        self, request: AnyRequest, conversations: NamedDependency[Desk], conversation_id: FromPath[str]
    ) -> ConversationDeleted:
        """Remove a conversation with its items; responses that were made in it stay."""
        return await conversations.delete(conversation_id, owner_of(request))

    @post("/{conversation_id:str}/items", status_code=200, operation_class=documented(CreateItemsRequest, ItemList))
    async def add_items(
        self, request: AnyRequest, conversations: NamedDependency[Desk], conversation_id: FromPath[str]
    ) -> ItemList:
        """Add items to a conversation."""
        return await conversations.add_items(conversation_id, request.scope, request.receive)

    @get("/{conversation_id:str}/items", operation_class=documented(None, ItemList, query=ItemsQuery))
    async def items(
        self, request: AnyRequest, conversations: NamedDependency[Desk], conversation_id: FromPath[str]
    ) -> ItemList:
        """The items of a conversation, the newest first."""
        return await conversations.items(conversation_id, owner_of(request), query_of(request, ItemsQuery))

    @get("/{conversation_id:str}/items/{item_id:str}", operation_class=documented(None, None, media=("application/json",)))
    async def item(
        self,
        request: AnyRequest,
        conversations: NamedDependency[Desk],
        conversation_id: FromPath[str],
        item_id: FromPath[str],
    ) -> dict[str, Any]:
        """One item of a conversation."""
        return await conversations.item(conversation_id, item_id, owner_of(request))

    @delete("/{conversation_id:str}/items/{item_id:str}", status_code=200, operation_class=documented(None, Conversation))
    async def remove_item(
        self,
        request: AnyRequest,
        conversations: NamedDependency[Desk],
        conversation_id: FromPath[str],
        item_id: FromPath[str],
    ) -> Conversation:
        """Remove one item of a conversation."""
        return await conversations.delete_item(conversation_id, item_id, owner_of(request))
