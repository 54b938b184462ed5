"""Bodies of requests in other shapes than OpenAI's chats."""

from __future__ import annotations

from contextlib import closing
from typing import TypeVar

from litestar.types import HTTPScope, Receive
from msgspec import Struct

from openai_compat.config import Config
from openai_compat.gateway.body import read_json_body
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.grants import ANYBODY
from openai_compat.sizes import parse_size
from schemas.decode import decode

BodyT = TypeVar("BodyT", bound=Struct)


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
