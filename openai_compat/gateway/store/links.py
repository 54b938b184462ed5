"""Pictures behind links: the bytes of an answer are kept, and an address that nobody can guess stands in their place."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from typing import Any

import msgspec
from litestar.types import HTTPScope

from openai_compat.config import Config
from openai_compat.gateway.store.folder import Media, OpenFile, gone
from openai_compat.gateway.store.storage import Storage

PATH = "/v1/media/"
_HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
_TYPES = (
    (b"\x89PNG", ".png", "image/png"),
    (b"\xff\xd8\xff", ".jpg", "image/jpeg"),
    (b"RIFF", ".webp", "image/webp"),
    (b"GIF8", ".gif", "image/gif"),
)
_UNKNOWN = (b"", ".bin", "application/octet-stream")


class Links:
    """Makes and follows links; they live for ``storage.link_expiry``."""

    def __init__(self, config: Config, storage: Storage) -> None:
        self._storage = storage
        self._lifetime = round(config.storage.link_expiry)
        self._origin = config.server.public_url.rstrip("/")
        self._fallback = f"{config.server.host}:{config.server.port}".encode()

    async def linked(self, answer: bytes, scope: HTTPScope) -> bytes:
        """A JSON answer with a ``url`` for each ``b64_json`` in it. Raises ``Unavailable`` where there is no room."""
        found = await asyncio.to_thread(msgspec.json.decode, answer)
        for item in _pictures_in(found):
            data = await asyncio.to_thread(base64.b64decode, item.pop("b64_json"))
            item["url"] = await self._keep(data, scope)
        return msgspec.json.encode(found)

    async def find(self, name: str) -> tuple[Media, OpenFile]:
        """What a link leads to. Raises ``NotFound``, also for files that are no link's."""
        store = self._storage.store
        if store is None:
            raise gone()
        media = await store.media.find(name)
        return media, await store.media.open(media)

    async def _keep(self, data: bytes, scope: HTTPScope) -> str:
        store = await self._storage.open()
        _, extension, type = next((row for row in _TYPES if data.startswith(row[0])), _UNKNOWN)
        owner = str(scope["state"].get("key_id", ""))
        expires = int(time.time()) + self._lifetime
        media = await store.media.put(data, extension, type=type, owner=owner, expires=expires)
        return f"{self._origin or self._asked(scope)}{PATH}{media.name}"

    def _asked(self, scope: HTTPScope) -> str:
        """The server's address as the client wrote it."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return f"{scope['scheme']}://{(host if _HOST.fullmatch(host) else self._fallback).decode()}"


def _pictures_in(value: Any) -> list[dict[str, Any]]:
    """Every object that holds a picture's bytes, wherever it stands."""
    if isinstance(value, list):
        return [found for item in value for found in _pictures_in(item)]
    if not isinstance(value, dict):
        return []
    here = [value] if isinstance(value.get("b64_json"), str) else []
    return here + [found for item in value.values() for found in _pictures_in(item)]
