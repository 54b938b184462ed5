"""`/v1/conversations` behind its routes. A conversation expires when nothing was added to it for as long as
responses are kept.
"""

from __future__ import annotations

import msgspec
from litestar.types import HTTPScope, Receive
from msgspec import Struct

from openai_compat.errors import NotFound
from openai_compat.gateway.intake import Intake
from openai_compat.gateway.responses.history import Wanted, no_conversation
from openai_compat.gateway.responses.intake import listed, listed_page, named_in, owner_of, put_in
from openai_compat.gateway.responses.rows import CONVERSATION, Draft, Item, ItemRow, Row, now
from openai_compat.gateway.responses.shelf import Shelf
from openai_compat.translate.responses import new_id, read_items
from schemas.conversations import (
    Conversation,
    ConversationDeleted,
    CreateConversationRequest,
    CreateItemsRequest,
    ItemsQuery,
    UpdateConversationRequest,
)
from schemas.responses_answer import ItemList

_KEPT = "kept"


class _Record(Struct, frozen=True, kw_only=True):
    """What is kept of a conversation beside its items."""

    metadata: dict[str, str] = {}


_record = msgspec.json.Decoder(_Record)


class ConversationDesk:
    """Each belongs to the key that made it, and to any other does not exist."""

    def __init__(self, shelf: Shelf, intake: Intake) -> None:
        self._shelf = shelf
        self._intake = intake

    async def create(self, scope: HTTPScope, receive: Receive) -> Conversation:
        request = await self._intake.read(scope, receive, CreateConversationRequest)
        owner, record = owner_of(scope), _Record(metadata=request.metadata or {})
        draft = Draft(
            id=new_id("conv"),
            kind=CONVERSATION,
            owner=owner,
            status=_KEPT,
            created=now(),
            expires=self._shelf.expires,
            body=msgspec.json.encode(record),
            said=await self._items(request.items, owner),
        )
        await self._shelf.add(draft)
        return _shown(Row(draft.id, draft.status, draft.created, draft.body))

    async def get(self, id: str, owner: str) -> Conversation:
        return _shown(await self._find(id, owner))

    async def update(self, id: str, scope: HTTPScope, receive: Receive) -> Conversation:
        """New metadata in the place of the old."""
        request = await self._intake.read(scope, receive, UpdateConversationRequest)
        found = await self._find(id, owner_of(scope))
        record = _Record(metadata=request.metadata or {})
        await self._shelf.rewrite(id, msgspec.json.encode(record))
        return Conversation(id=id, created_at=found.created, metadata=record.metadata)

    async def delete(self, id: str, owner: str) -> ConversationDeleted:
        """With its items; responses that were made in it stay."""
        await self._find(id, owner)
        await self._shelf.remove(id)
        return ConversationDeleted(id=id)

    async def add_items(self, id: str, scope: HTTPScope, receive: Receive) -> ItemList:
        request = await self._intake.read(scope, receive, CreateItemsRequest)
        owner = owner_of(scope)
        await self._find(id, owner)
        items = await self._items(request.items, owner)
        if not await self._shelf.append(id, owner, items):
            raise no_conversation(id)
        return listed(items)

    async def items(self, id: str, owner: str, query: ItemsQuery) -> ItemList:
        await self._find(id, owner)
        ascending = query.order == "asc"
        return listed_page(await self._shelf.page(id, "said", after=query.after, limit=query.limit, ascending=ascending))

    async def item(self, id: str, item: str, owner: str) -> Item:
        return (await self._find_item(id, item, owner)).item

    async def delete_item(self, id: str, item: str, owner: str) -> Conversation:
        found = await self._find_item(id, item, owner)
        await self._shelf.remove_item(id, found)
        return _shown(await self._find(id, owner))

    async def _items(self, given: list[object] | None, owner: str) -> list[Item]:
        """As they are kept; what they refer to is copied. Raises ``InvalidRequest`` and ``NotFound``."""
        items = read_items(given, "items")
        wanted = Wanted(owner=owner, named=named_in(items), longest=self._intake.max_body)
        return put_in(items, (await self._shelf.history(wanted)).named)

    async def _find(self, id: str, owner: str) -> Row:
        found = await self._shelf.find(CONVERSATION, id, owner)
        if found is None:
            raise no_conversation(id)
        return found

    async def _find_item(self, id: str, item: str, owner: str) -> ItemRow:
        await self._find(id, owner)
        found = await self._shelf.item(id, "said", item)
        if found is None:
            raise NotFound(f"Item with id '{item[:100]}' not found in conversation '{id}'.", param="item_id")
        return found


def _shown(row: Row) -> Conversation:
    return Conversation(id=row.id, created_at=row.created, metadata=_record.decode(row.body).metadata)
