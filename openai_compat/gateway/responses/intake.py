"""What requests of these routes have in common: whose they are, their bodies, and the items that they bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

from litestar.types import HTTPScope, Receive
from msgspec import Struct

from openai_compat.config import Config
from openai_compat.gateway.body import read_json_body
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.responses.rows import Item, ItemRow
from openai_compat.grants import ANYBODY
from openai_compat.sizes import parse_size
from schemas.decode import decode
from schemas.responses_answer import ItemList

BodyT = TypeVar("BodyT", bound=Struct)
REFERENCE = "item_reference"


class Intake:
    """Reads bodies, within the limits of the configuration in force and of the key."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._ledger = ledger
        self.renew(config)

    def renew(self, config: Config) -> None:
        self.max_body = parse_size(config.server.max_body)
        self._origins = config.server.cors_origins

    async def read(self, scope: HTTPScope, receive: Receive, type: type[BodyT]) -> BodyT:
        """Raises ``APIError``."""
        with closing(self._ledger.arrive(scope["state"].get("grant", ANYBODY))):
            body = await read_json_body(scope["headers"], receive, self.max_body, origins=self._origins)
        return decode(body, type)


def owner_of(scope: HTTPScope) -> str:
    """The id of the key that asks."""
    return str(scope["state"].get("key_id", ""))


def named_in(items: Sequence[Item]) -> tuple[str, ...]:
    """The ids of kept items that these refer to, one for each place."""
    return tuple(str(item["id"]) for item in items if item["type"] == REFERENCE)


def put_in(items: Sequence[Item], named: Mapping[str, Item]) -> list[Item]:
    """The items with those in place that they refer to."""
    return [named[item["id"]] if item["type"] == REFERENCE else item for item in items]


def listed(found: Sequence[ItemRow], limit: int) -> ItemList:
    """A page of ``found``, which has one more than ``limit`` where there are more."""
    data: list[dict[str, Any]] = [row.item for row in found[:limit]]
    ids = (str(data[0]["id"]), str(data[-1]["id"])) if data else (None, None)
    return ItemList(data=data, first_id=ids[0], last_id=ids[1], has_more=len(found) > limit)
