"""Models as Anthropic's clients list them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import Name


class ModelPageQuery(Struct, frozen=True, kw_only=True):
    """The page behind ``after_id``, or the one before ``before_id``."""

    after_id: Name | None = None
    before_id: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 20


class ModelInfo(Struct, frozen=True, kw_only=True):
    """``created_at`` is a date of RFC 3339; ``max_input_tokens`` the context's length in tokens."""

    id: str
    type: Literal["model"] = "model"
    display_name: str
    created_at: str
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None = None


class ModelPage(Struct, frozen=True, kw_only=True):
    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None
