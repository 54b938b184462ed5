"""`/v1/conversations`: requests, the object, and what its items and those of responses are listed by."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schemas.common import Label, Name
from schemas.responses import Metadata

MAX_ADDED = 20
"""Items that are added at a time, as at OpenAI."""
Items = Annotated[list[Any], Meta(max_length=MAX_ADDED)]


class CreateConversationRequest(Struct, frozen=True, kw_only=True):
    items: Items | None = None
    metadata: Metadata | None = None


class UpdateConversationRequest(Struct, frozen=True, kw_only=True):
    """``metadata`` takes the place of what was there."""

    metadata: Metadata | None


class CreateItemsRequest(Struct, frozen=True, kw_only=True):
    items: Items


class ItemsQuery(Struct, frozen=True, kw_only=True):
    """Of one page. Everything that ``include`` can ask for of these items is always there."""

    after: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    include: Annotated[list[Label], Meta(max_length=64)] | None = None


# ---------------------------------------------------------------- answers


class Conversation(Struct, frozen=True, kw_only=True):
    """``created_at`` is in Unix seconds."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class ConversationDeleted(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True
