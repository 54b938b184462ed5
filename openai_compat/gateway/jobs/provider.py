"""Questions to an upstream about its videos."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar, cast

import msgspec
from litestar.types import HTTPScope
from msgspec import Struct

from openai_compat.config import Price
from openai_compat.errors import UpstreamError, UpstreamTimeout
from openai_compat.gateway.jobs.aims import PATH
from openai_compat.gateway.jobs.making import refusal
from openai_compat.gateway.order import Envelope, Failure, Order, Sender, UpstreamTarget
from openai_compat.gateway.replica import Answer
from openai_compat.http.endpoint import Endpoint
from openai_compat.translate import videos
from schemas.videos import CreateVideoRequest

T = TypeVar("T")
_TRIES = 6
_PAUSE = 1.0  # seconds before the second try, doubled each time
_LONGEST_WAIT = 30.0  # seconds that an upstream may ask us to wait
_LONGEST_OBJECT = 1 << 20
_ID = re.compile(r"[\w.:=-]{1,256}", re.ASCII)
_ENDPOINT = Endpoint(request=CreateVideoRequest, plan=videos.plan)
NOT_BEGUN = frozenset({"not_begun", "rate_limited", "open"})
"""Causes after which an order may be given anew."""
PASSING = NOT_BEGUN | {"lost", "timeout", "server_error"}
"""Causes after which a question may be asked anew."""


class Nonsense(UpstreamError):
    """An answer that is none, and would not be at the next try either."""


class VideoError(Struct, frozen=True):
    message: str = ""
    code: str | None = None


class FarVideo(Struct, frozen=True):
    """What an upstream tells of a video. Fields that are read only if they fit have no type."""

    id: str
    status: str = "queued"
    progress: Any = 0
    seconds: Any = None
    size: Any = None
    error: VideoError | None = None


class _Unmetered:
    """The tally of questions, which nobody pays for."""

    label = ""

    def aim(self, label: str, price: Price) -> None: ...

    def used(self, prompt: int, completion: int, cached: int = 0) -> None: ...

    def awaits(self) -> Callable[..., None]:
        return lambda *_: None

    def spent(self, label: str, price: Price) -> None: ...

    def forget(self) -> None: ...

    def passed(self, size: int) -> None: ...

    def close(self, *, complete: bool, failed: bool = False) -> None: ...


class Provider:
    """One upstream's ``/videos``, through ``sender``. All raise ``Failure``, ``APIError`` and ``Refused``."""

    def __init__(self, sender: Sender, target: UpstreamTarget, timeout: float) -> None:
        self.target = target
        self._sender = sender
        self._timeout = timeout

    async def order(self, body: bytes) -> FarVideo:
        return await patiently(lambda: self._object("POST", body=body), NOT_BEGUN)

    async def look(self, id: str) -> FarVideo:
        return await patiently(lambda: self._object("GET", id), PASSING)

    def content(self, id: str, query: str = "") -> contextlib.AbstractAsyncContextManager[Answer]:
        return self._asked("GET", id, "/content", query)

    async def remove(self, id: str) -> None:
        async with self._asked("DELETE", id):
            pass

    async def _object(self, method: str, id: str = "", body: bytes = b"") -> FarVideo:
        async with self._asked(method, id, body=body) as answer:
            data = await read_whole(answer, _LONGEST_OBJECT)
        try:
            video = msgspec.json.decode(data, type=FarVideo)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise nonsense() from None
        if not _ID.fullmatch(video.id):
            raise nonsense()
        return video

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, id: str = "", more: str = "", query: str = "", *, body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """Raises ``Failure``, ``APIError`` and ``Refused``."""
        order = Order(
            method=method,
            path=f"{PATH}/{id}{more}" if id else PATH,
            query=query,
            headers=[(b"content-type", b"application/json")] if body else [],
            body=body,
            envelope=Envelope(model=self.target.remote_name),
            public_name=self.target.label,
            request_id=f"req_{secrets.token_hex(16)}",
            key_id="",
            deadline=time.monotonic() + self._timeout,
            tally=_Unmetered(),
            endpoint=_ENDPOINT,
            scope=cast(HTTPScope, {"type": "http", "state": {}, "headers": []}),
        )
        async with self._sender.send(order, self.target) as answer:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise await refusal(answer)
            yield answer


async def patiently(ask: Callable[[], Awaitable[T]], causes: frozenset[str]) -> T:
    """Again where that may help: nobody waits at the other end of a connection."""
    for attempt in range(_TRIES):
        try:
            return await ask()
        except Failure as failure:
            if failure.cause not in causes or attempt == _TRIES - 1:
                raise failure.error from None
            pause = failure.retry_after if failure.retry_after is not None else _PAUSE * 2**attempt
            await asyncio.sleep(min(_LONGEST_WAIT, pause))
        except (UpstreamError, UpstreamTimeout) as error:  # in the middle of an answer
            if isinstance(error, Nonsense) or causes is not PASSING or attempt == _TRIES - 1:
                raise
            await asyncio.sleep(_PAUSE)
    raise nonsense()


async def read_whole(answer: Answer, longest: int) -> bytes:
    data = bytearray()
    async for chunk in answer.chunks():
        data += chunk
        if len(data) > longest:
            raise nonsense()
    return bytes(data)


def nonsense() -> Nonsense:
    return Nonsense("The provider of the model answered with something that is no video.")
