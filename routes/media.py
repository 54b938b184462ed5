"""The pictures behind the links of other answers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from openai_compat.http.binary import ByteStream
from openai_compat.http.openapi import documented
from openai_compat.http.ranges import asked_range

PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif")


class Facts(Protocol):
    """What is known of a kept file. ``expires`` is a Unix time."""

    @property
    def type(self) -> str: ...
    @property
    def expires(self) -> int | None: ...


class Bytes(Protocol):
    """A kept file's bytes; ``size`` says how many."""

    @property
    def size(self) -> int: ...

    def pieces(self, places: range | None = None) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


@runtime_checkable
class Linked(Protocol):
    """Follows links."""

    async def find(self, name: str) -> tuple[Facts, Bytes]: ...


class MediaController(Controller):
    """No key is asked for: whoever has the link may see the picture, as the page in which it stands does."""

    path = "/v1/media"
    tags = ("Media",)

    @get("/{name:str}", operation_class=documented(None, None, media=PICTURES))
    async def picture(
        self, request: Request[Any, Any, Any], links: NamedDependency[Linked], name: FromPath[str]
    ) -> Response[Any]:
        """A picture, by the link that an answer had."""
        facts, file = await links.find(name)
        return file_answer(file, facts, request.headers)


def file_answer(file: Bytes, facts: Facts, asked: Mapping[str, str]) -> Response[Any]:
    """The file, or the one range of it that the headers in ``asked`` name. It is never to be taken for a page, and kept by the
    client's own cache only.
    """
    lifetime = 0 if facts.expires is None else max(0, facts.expires - int(time.time()))
    places = None if "if-range" in asked else asked_range(asked.get("range"), file.size)
    headers = {
        "content-length": str(file.size if places is None else len(places)),
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={lifetime}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if places is not None:
        headers["content-range"] = f"bytes {places.start}-{places.stop - 1}/{file.size}"
    return ByteStream(_pieces(file, places), facts.type, headers, 200 if places is None else 206)


async def _pieces(file: Bytes, places: range | None) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in file.pieces(places):
            yield piece
    finally:
        file.close()
