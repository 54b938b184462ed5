"""Making one video: a lease, the worker's parcels, and the files that come of them."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openai_compat.errors import APIError, DeadlineExceeded, Unavailable, WorkerDied
from openai_compat.gateway.jobs.record import Film, VideoRecord
from openai_compat.gateway.order import Tally
from openai_compat.gateway.replica import Answer, Call, NotBegun, ReplicaLost
from openai_compat.gateway.slot import Lease
from openai_compat.gateway.store.folder import MediaFolder, MediaWriter
from openai_compat.http.parcels import BrokenParcels, Kind, ParcelReader
from openai_compat.media.video import MEDIA_TYPE, THUMBNAIL_TYPE
from openai_compat.protocol import ASCII, FetchRules, RelayFacts
from schemas.common import ErrorDetail, ErrorResponse
from schemas.videos import CreateVideoRequest, ImageReference

logger = logging.getLogger(__name__)
_ATTEMPTS = 4
_PAUSE = 30.0  # seconds between two attempts at most
_LONGEST_ERROR = 1 << 16
OpenAccount = Callable[[str, str], Tally]
"""The account of a job, by its owner and its model's id, aimed at that."""
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class Leases(Protocol):
    """The part of the pool that a job needs."""

    async def acquire(self, model_id: str, *, wait: float | None = None, request_id: str = ...) -> Lease: ...


class Refused(Exception):
    """The model's own error, in the words that a client may read."""

    def __init__(self, detail: ErrorDetail) -> None:
        super().__init__(detail.message)
        self.detail = detail


class Made(Struct, frozen=True):
    """The names of the files, and what they hold; ``request`` is the order as it was carried out, where others did it."""

    video: str
    thumbnail: str | None
    film: Film | None
    request: CreateVideoRequest | None = None


class _Progress(Struct, frozen=True):
    done: int
    total: int


class Maker:
    """Makes videos with the models of a pool; where their pictures are on other servers, these are fetched by ``fetch``."""

    def __init__(self, pool: Leases, timeout: float, account: OpenAccount, fetch: FetchRules | None = None) -> None:
        self._pool = pool
        self.fetch = fetch
        self._timeout = timeout
        self._account = account

    async def make(self, id: str, owner: str, record: VideoRecord, folder: MediaFolder, tell: Callable[[int], None]) -> Made:
        """``tell`` gets the percentage. Half a file does not stay, however this ends.

        Raises:
            APIError: the model could not be had, or died, or it took too long.
            Refused: the model said no.
        """
        end = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(end):
                body = await _body(record, folder)
                return await self._attempts(id, owner, record, body, _Files(id, owner, folder, tell), end)
        except TimeoutError:
            raise DeadlineExceeded(f"The video took longer than {self._timeout:g} seconds.") from None

    async def _attempts(self, id: str, owner: str, record: VideoRecord, body: bytes, files: _Files, end: float) -> Made:
        """Again where the model is not to be had just now: nobody waits at the other end of a connection."""
        for attempt in range(_ATTEMPTS):
            try:
                return await self._once(id, owner, record, body, files, end)
            except NotBegun:
                pause = 1.0
            except Unavailable as error:
                if error.retry_after is None or error.retry is False or attempt == _ATTEMPTS - 1:
                    raise
                pause = min(error.retry_after, _PAUSE)
            logger.info("the video %s waits for %s", id, record.model_id)
            await asyncio.sleep(pause)
        raise _died(record)

    async def _once(self, id: str, owner: str, record: VideoRecord, body: bytes, files: _Files, end: float) -> Made:
        left = end - asyncio.get_running_loop().time()
        with await self._pool.acquire(record.model_id, wait=left, request_id=id) as lease:
            tally, failed = self._account(owner, record.model_id), True
            lease.on_usage = tally.awaits()
            facts = RelayFacts(
                request_id=lease.request_id,
                model=record.model_id,
                public_model=record.model,
                mode=record.mode,
                cache_salt=owner,
                deadline=max(0.0, end - asyncio.get_running_loop().time()),
                fetch=self.fetch,
            )
            try:
                async with lease.replica.forward(_call(facts, body)) as answer:
                    made = await _read(answer, files)
                failed = False
                return made
            except NotBegun:
                lease.discard()
                raise
            except (ReplicaLost, BrokenParcels):
                lease.suspect()
                raise _died(record) from None
            finally:
                tally.close(complete=not failed, failed=failed)
                await files.give_up()


class _Files:
    """What becomes of a worker's parcels."""

    def __init__(self, id: str, owner: str, folder: MediaFolder, tell: Callable[[int], None]) -> None:
        self._id = id
        self._owner = owner
        self._folder = folder
        self._tell = tell
        self._writer: MediaWriter | None = None
        self._film: Film | None = None
        self._thumbnail: bytes | None = None

    async def take(self, kind: Kind, payload: bytes) -> Made | None:
        """What was made, with the last parcel. Raises ``Refused``."""
        match kind:
            case Kind.PROGRESS:
                progress = msgspec.json.decode(payload, type=_Progress)
                self._tell(99 * progress.done // max(1, progress.total))
            case Kind.FACTS:
                self._film = msgspec.json.decode(payload, type=Film)
            case Kind.THUMBNAIL:
                self._thumbnail = payload
            case Kind.CONTENT:
                self._writer = self._writer or self._folder.writer(".mp4", type=MEDIA_TYPE, owner=self._owner, object=self._id)
                await self._writer.write(payload)
            case Kind.ERROR:
                raise Refused(msgspec.json.decode(payload, type=ErrorResponse).error)
            case Kind.END:
                return await self._finish()
        return None

    async def give_up(self) -> None:
        """Remove what is not whole."""
        writer, self._writer, self._film, self._thumbnail = self._writer, None, None, None
        if writer is not None:
            await writer.discard()

    async def _finish(self) -> Made:
        if self._writer is None or self._film is None:
            raise BrokenParcels
        name = None
        if self._thumbnail is not None:
            thumbnail = await self._folder.put(
                self._thumbnail, ".webp", type=THUMBNAIL_TYPE, owner=self._owner, object=self._id
            )
            name = thumbnail.name
        video = await self._writer.finish()
        self._writer = None
        return Made(video.name, name, self._film)


async def _read(answer: Answer, files: _Files) -> Made:
    if answer.status != HTTPStatus.OK:
        raise await refusal(answer)
    reader = ParcelReader()
    async for chunk in answer.chunks():
        for kind, payload in reader.feed(chunk):
            if (made := await files.take(kind, payload)) is not None:
                return made
    raise ReplicaLost


async def refusal(answer: Answer) -> Exception:
    """What a worker answered before it began."""
    data = b""
    async for chunk in answer.chunks():
        data += chunk
        if len(data) > _LONGEST_ERROR:
            break
    try:
        detail = msgspec.json.decode(data, type=ErrorResponse).error
    except msgspec.DecodeError:
        return ReplicaLost()
    if answer.status in _BUSY:
        return Unavailable(detail.message, code=detail.code, retry_after=1.0)
    return Refused(detail)


async def _body(record: VideoRecord, folder: MediaFolder) -> bytes:
    """The request as the worker reads it, with its picture."""
    if record.image is None:
        return msgspec.json.encode(record.request)
    file = await folder.open(await folder.named(record.image))
    try:
        data = base64.b64encode(await file.read()).decode()
    finally:
        file.close()
    reference = ImageReference(image_url=f"data:application/octet-stream;base64,{data}")
    request: CreateVideoRequest = replace(record.request, input_reference=reference)
    return msgspec.json.encode(request)


def _call(facts: RelayFacts, body: bytes) -> Call:
    headers = [(b"content-type", b"application/json")]
    headers += [(name.encode(ASCII), value.encode(ASCII)) for name, value in facts.to_headers().items()]
    return Call("POST", "/v1/videos", headers, body)


def _died(record: VideoRecord) -> APIError:
    return WorkerDied(f"The process of the model '{record.model}' ended while it made the video.")
