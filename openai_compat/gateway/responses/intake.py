"""What requests of these routes have in common: whose they are, and the items that they bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from litestar.types import HTTPScope

from openai_compat.gateway.responses.rows import Item, Page
from schemas.responses_answer import ItemList

REFERENCE = "item_reference"


def owner_of(scope: HTTPScope) -> str:
    """The id of the key that asks."""
    return str(scope["state"].get("key_id", ""))


def named_in(items: Sequence[Item]) -> tuple[str, ...]:
    """The ids of kept items that these refer to, one for each place."""
    return tuple(str(item["id"]) for item in items if item["type"] == REFERENCE)


def put_in(items: Sequence[Item], named: Mapping[str, Item]) -> list[Item]:
    """The items with those in place that they refer to."""
    return [named[item["id"]] if item["type"] == REFERENCE else item for item in items]


def listed(items: list[Item], *, more: bool = False) -> ItemList:
    """``more``: there are others after them."""
    ids = (str(items[0]["id"]), str(items[-1]["id"])) if items else (None, None)
    return ItemList(data=items, first_id=ids[0], last_id=ids[1], has_more=more)


def listed_page(page: Page) -> ItemList:
    return listed([row.item for row in page.rows], more=page.more)
