"""`/v1/videos` behind its routes: jobs of this server, each kept before anything else happens with it.

A video that waits when the server ends is made by the next one; one that was being made is marked as failed, since what
it had come to is lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial

from litestar.types import HTTPScope, Receive
from msgspec.structs import replace

from openai_compat.config import Config
from openai_compat.errors import Conflict, InvalidRequest, NotFound, Unavailable
from openai_compat.gateway.body import brings_form, read_json_body, read_whole_form
from openai_compat.gateway.checks import Checks
from openai_compat.gateway.fetching import fetch_rules
from openai_compat.gateway.jobs.aims import Aims
from openai_compat.gateway.jobs.failures import INTERNAL, RESTARTED, error_of
from openai_compat.gateway.jobs.making import Leases, Made, Maker
from openai_compat.gateway.jobs.queue import JobQueue
from openai_compat.gateway.jobs.record import COMPLETED, FAILED, KIND, QUEUED, RUNNING, VideoRecord, shown
from openai_compat.gateway.jobs.remote import RemoteMaker
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import Sender
from openai_compat.gateway.store.folder import Media, OpenFile
from openai_compat.gateway.store.objects import Kept
from openai_compat.gateway.store.storage import Storage, Store
from openai_compat.media.urls import not_enabled
from openai_compat.sizes import parse_size
from openai_compat.translate import videos
from openai_compat.translate.attachments import Attachment, picture_file
from schemas.decode import decode
from schemas.form import decode_form
from schemas.videos import (
    CreateVideoRequest,
    RemixVideoRequest,
    Variant,
    Video,
    VideoDeleted,
    VideoError,
    VideoList,
    VideoListQuery,
)

logger = logging.getLogger(__name__)
_ID = 16  # bytes of chance in an id
_SEEDS = 2**31
_FAR_AT_ONCE = 16  # videos that one upstream makes for us at once
_NO_ROOM_PAUSE = 5.0  # seconds between two looks for room on the disk


class VideoDesk:
    """Takes orders for videos, and hands them out. An owner is a key's id."""

    def __init__(self, config: Config, aims: Aims, pool: Leases, upstreams: Sender, storage: Storage) -> None:
        self._storage = storage
        self._aims = aims
        self._maker = Maker(pool, config.jobs.timeout, aims.local_account, fetch_rules(config.media))
        self._remote = RemoteMaker(config, aims, upstreams)
        self._queue = JobQueue(config.jobs)
        self._expiry = round(config.storage.expiry)
        self._grace = config.server.shutdown_grace
        self._max_body = parse_size(config.server.max_body)
        self._origins = config.server.cors_origins
        self._progress: dict[str, int] = {}

    def renew(self, config: Config, checks: Checks, offers: Offers) -> None:
        """Take orders by another configuration; ``jobs`` and ``storage`` are the same in both."""
        self._aims.renew(config, checks, offers)
        self._remote.renew(config)
        self._maker.fetch = fetch_rules(config.media)
        self._max_body = parse_size(config.server.max_body)
        self._origins = config.server.cors_origins

    async def start(self) -> None:
        """Go on with what an earlier server left."""
        if self._storage.store is None:
            return
        for kept in await self._storage.store.objects(KIND).with_status(QUEUED, RUNNING):
            record = VideoRecord.of(kept)
            if kept.status == RUNNING and not record.remote:
                await self._cut_off(self._storage.store, kept)
            else:
                self._enqueue(kept, record)

    async def close(self) -> None:
        """Let the videos that are being made be finished within the grace; those at upstreams go on without us."""
        store = self._storage.store
        running = [] if store is None else await store.objects(KIND).with_status(RUNNING)
        for kept in running:
            if VideoRecord.of(kept).remote:
                await self._queue.cancel(kept.id)
        await self._queue.close(self._grace)
        if store is not None:
            for kept in await store.objects(KIND).with_status(RUNNING):
                if not VideoRecord.of(kept).remote:
                    await self._cut_off(store, kept)

    # ------------------------------------------------------------ what clients ask

    async def create(self, scope: HTTPScope, receive: Receive) -> Video:
        """Every check that needs no model, then the order is kept."""
        with closing(self._aims.arrive(scope)):
            wire, picture = await self._read(scope, receive)
        far = picture is not None and picture.url
        request = wire if far else replace(wire, input_reference=None)
        record = await self._aims.checked(request, scope)
        if request.seed is None and not record.upstream:
            record = replace(record, request=replace(record.request, seed=secrets.randbelow(_SEEDS)))
        return await self._keep(_owner(scope), record, None if picture is None or far else picture.data)

    async def remix(self, id: str, scope: HTTPScope, receive: Receive) -> Video:
        """A new video as the other one was ordered, its seed and its picture too, by another prompt."""
        with closing(self._aims.arrive(scope)):
            body = await read_json_body(scope["headers"], receive, self._max_body, origins=self._origins)
        prompt = decode(body, RemixVideoRequest).prompt
        store, kept = await self._find(id, _owner(scope))
        source = VideoRecord.of(kept)
        _check_made(kept, source)
        record = await self._aims.checked(replace(source.request, prompt=prompt), scope)
        return await self._keep(_owner(scope), replace(record, remixed_from=id), await _bytes(store, source.image))

    async def list(self, owner: str, query: VideoListQuery) -> VideoList:
        store = self._storage.store
        if store is None:
            return VideoList(data=(), has_more=False)
        after = None
        if query.after is not None:
            found = await store.objects(KIND).get(query.after, owner)
            if found is None:
                raise InvalidRequest(f"There is no video '{query.after}' to go on after.", param="after", code="invalid_value")
            after = found.number
        page = await store.objects(KIND).page(owner, after=after, limit=query.limit, order=query.order)
        data = tuple(self._shown(kept) for kept in page.items)
        ids = (data[0].id, data[-1].id) if data else (None, None)
        return VideoList(data=data, has_more=page.has_more, first_id=ids[0], last_id=ids[1])

    async def get(self, id: str, owner: str) -> Video:
        _, kept = await self._find(id, owner)
        return self._shown(kept)

    async def delete(self, id: str, owner: str) -> VideoDeleted:
        """Whatever state it is in; what is being made of it ends at its next step."""
        await self._find(id, owner)
        await self._queue.cancel(id)
        store, kept = await self._find(id, owner)
        if (record := VideoRecord.of(kept)).remote:
            await self._remote.cancel(record)
        await store.media.remove_object(id)
        return VideoDeleted(id=id)

    async def content(self, id: str, owner: str, variant: Variant) -> tuple[Media, OpenFile]:
        """Raises ``Conflict`` where it is not made yet."""
        videos.check_variant(variant)
        store, kept = await self._find(id, owner)
        record = VideoRecord.of(kept)
        _check_made(kept, record)
        name = record.thumbnail if variant == "thumbnail" else record.video
        media = await store.media.named(name or "")
        return media, await store.media.open(media)

    # ------------------------------------------------------------ orders

    async def _read(self, scope: HTTPScope, receive: Receive) -> tuple[CreateVideoRequest, Attachment | None]:
        """The order, and the picture that comes with it."""
        headers = scope["headers"]
        if not brings_form(headers):
            body = await read_json_body(headers, receive, self._max_body, forms=True, origins=self._origins)
            wire = decode(body, CreateVideoRequest)
            return wire, await asyncio.to_thread(videos.reference, wire)
        form = await read_whole_form(headers, receive, self._max_body, self._origins)
        wire = decode_form(form, CreateVideoRequest)
        if videos.REFERENCE not in form.files:
            return wire, await asyncio.to_thread(videos.reference, wire)
        if wire.input_reference is not None:
            message = f"The form holds '{videos.REFERENCE}' both as a file and as a field."
            raise InvalidRequest(message, param=videos.REFERENCE, code="invalid_value")
        return wire, picture_file(form.file(videos.REFERENCE).data, videos.REFERENCE)

    async def _keep(self, owner: str, record: VideoRecord, picture: bytes | None) -> Video:
        if self._maker.fetch is None and record.request.input_reference is not None and not record.upstream:
            raise not_enabled(f"{videos.REFERENCE}.image_url")
        self._queue.admit()
        store = await self._storage.open()
        objects, id = store.objects(KIND), f"video_{secrets.token_hex(_ID)}"
        await objects.add(id, owner=owner, status=QUEUED, created=int(time.time()), body=record.encoded())
        try:
            if picture is not None:
                image = await store.media.put(picture, ".bin", type="application/octet-stream", owner=owner, object=id)
                record = replace(record, image=image.name)
                await objects.change(id, status=QUEUED, body=record.encoded())
            kept = await objects.get(id, owner)
            if kept is None:
                raise NotFound(f"The video '{id}' is gone.")
            self._queue.admit()  # others may have come meanwhile; nothing is awaited before this one has its place
        except BaseException:
            await store.media.remove_object(id)
            raise
        self._enqueue(kept, record)
        return shown(kept, record, 0)

    def _enqueue(self, kept: Kept, record: VideoRecord) -> None:
        turn, at_once = (record.upstream, _FAR_AT_ONCE) if record.upstream else (record.model_id, None)
        self._queue.put(kept.id, turn, partial(self._work, kept, record), at_once=at_once)

    async def _work(self, kept: Kept, record: VideoRecord) -> None:
        """One job from its turn to its end. Cancelled, it leaves its state to whoever cancels it."""
        store = await self._storage.open()
        objects = store.objects(KIND)
        await _insist(partial(objects.change, kept.id, status=RUNNING, body=record.encoded()), kept.id)
        began = time.monotonic()
        try:
            record, made = await self._made(store, kept, record)
        except Exception as error:
            await _insist(partial(self._fail, store, kept, error_of(error)), kept.id)
            return
        finally:
            self._progress.pop(kept.id, None)
        now = int(time.time())
        record = replace(record, video=made.video, thumbnail=made.thumbnail, film=made.film, completed_at=now)
        record = replace(record, request=made.request or record.request)
        done = partial(objects.change, kept.id, status=COMPLETED, body=record.encoded(), expires=now + self._expiry)
        await _insist(done, kept.id)
        logger.info("the video %s was made by %s in %.1f s", kept.id, record.model_id, time.monotonic() - began)

    async def _made(self, store: Store, kept: Kept, record: VideoRecord) -> tuple[VideoRecord, Made]:
        tell = partial(self._tell, kept.id)
        if not record.upstream:
            return record, await self._maker.make(kept.id, kept.owner, record, store.media, tell)

        async def note(remote: str) -> None:
            nonlocal record
            record = replace(record, remote=remote)
            change = partial(store.objects(KIND).change, kept.id, status=RUNNING, body=record.encoded())
            await _insist(change, kept.id)

        made = await self._remote.make(kept.id, kept.owner, record, store.media, tell, note)
        return record, made

    async def _cut_off(self, store: Store, kept: Kept) -> None:
        """For what the end of a server broke off. Where the disk is full the next one tries again."""
        try:
            await self._fail(store, kept, RESTARTED)
        except Unavailable as error:
            logger.warning("the video %s could not be marked as failed: %s", kept.id, error.message)

    async def _fail(self, store: Store, kept: Kept, error: VideoError) -> None:
        """Nothing but the object stays of it."""
        record = replace(VideoRecord.of(kept), image=None, error=error)
        expires = int(time.time()) + self._expiry
        await store.objects(KIND).change(kept.id, status=FAILED, body=record.encoded(), expires=expires)
        await store.media.remove_files(kept.id)
        logger.warning("the video %s was not made: %s", kept.id, error.message)

    def _tell(self, id: str, percent: int) -> None:
        self._progress[id] = percent

    # ------------------------------------------------------------ looking

    async def _find(self, id: str, owner: str) -> tuple[Store, Kept]:
        """Raises ``NotFound``, for another key's too."""
        store = self._storage.store
        kept = None if store is None else await store.objects(KIND).get(id, owner)
        if store is None or kept is None:
            raise NotFound(f"There is no video '{id[:100]}', or it has expired.", param="video_id")
        return store, kept

    def _shown(self, kept: Kept) -> Video:
        return shown(kept, VideoRecord.of(kept), self._progress.get(kept.id, 0))


def _owner(scope: HTTPScope) -> str:
    return str(scope["state"].get("key_id", ""))


async def _insist(write: Callable[[], Awaitable[None]], id: str) -> None:
    """Until there is room on the disk: a job that ends in a state which is not its end would be waited for in vain."""
    while True:
        try:
            return await write()
        except Unavailable as error:
            logger.warning("the video %s waits: %s", id, error.message)
            await asyncio.sleep(_NO_ROOM_PAUSE)


def _check_made(kept: Kept, record: VideoRecord) -> None:
    if kept.status == FAILED:
        reason = record.error.message if record.error else INTERNAL.message
        raise Conflict(f"The video '{kept.id}' was not made: {reason}", code="video_failed", retry=False)
    if kept.status != COMPLETED:
        raise Conflict(f"The video '{kept.id}' is not made yet.", code="video_not_ready", retry=False)


async def _bytes(store: Store, name: str | None) -> bytes | None:
    if name is None:
        return None
    file = await store.media.open(await store.media.named(name))
    try:
        return await file.read()
    finally:
        file.close()
