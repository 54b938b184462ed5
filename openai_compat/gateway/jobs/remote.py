"""Making one video at an upstream: ordered there, asked after until it is done, and fetched into our own folder."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
from msgspec.structs import replace

from openai_compat.config import Config
from openai_compat.errors import APIError, DeadlineExceeded
from openai_compat.gateway.jobs.aims import Aims
from openai_compat.gateway.jobs.making import Made, Refused
from openai_compat.gateway.jobs.provider import PASSING, FarVideo, Provider, VideoError, nonsense, patiently, read_whole
from openai_compat.gateway.jobs.record import VideoRecord
from openai_compat.gateway.order import Failure, Sender
from openai_compat.gateway.replica import Answer
from openai_compat.gateway.store.folder import MediaFolder
from openai_compat.gateway.upstreams.scrub import addresses_of, scrub_message
from openai_compat.media.sniff import sniff_picture
from openai_compat.media.video import MEDIA_TYPE, THUMBNAIL_TYPE
from openai_compat.translate import videos
from schemas.common import ErrorDetail
from schemas.videos import CreateVideoRequest, ImageReference

Note = Callable[[str], Awaitable[None]]
_PAUSE, _LONGEST_PAUSE, _GROWTH = 1.0, 10.0, 1.3  # seconds between two questions after a video
_ENOUGH = 10.0  # seconds for what nobody waits for
_LONGEST_THUMBNAIL = 4 << 20
_MADE = frozenset({"completed", "succeeded"})
_NOT_MADE = frozenset({"failed", "cancelled", "canceled", "expired", "error", "deleted"})


class RemoteMaker:
    """Makes videos at upstreams. What was ordered there is not ordered again, also not by the next server."""

    def __init__(self, config: Config, aims: Aims, sender: Sender) -> None:
        self._upstreams = config.upstreams
        self._timeout = config.jobs.timeout
        self._aims = aims
        self._sender = sender

    def renew(self, config: Config) -> None:
        self._upstreams = config.upstreams

    async def make(
        self, id: str, owner: str, record: VideoRecord, folder: MediaFolder, tell: Callable[[int], None], note: Note
    ) -> Made:
        """``tell`` gets the percentage, ``note`` the id there, once. Half a file does not stay.

        Raises:
            APIError: the upstream could not be reached, or answered nonsense, or it took too long.
            Refused: it said no.
        """
        try:
            async with asyncio.timeout(self._timeout):
                provider = self._provider(record)
                remote = record.remote or await self._ordered(provider, owner, record, folder, note)
                video = await self._awaited(provider, remote, record, tell)
                name = await patiently(lambda: _stored(provider, remote, folder, id, owner), PASSING)
                return Made(name, await _thumbnail(provider, remote, folder, id, owner), None, _as_made(record.request, video))
        except TimeoutError:
            raise DeadlineExceeded(f"The video took longer than {self._timeout:g} seconds.") from None

    async def cancel(self, record: VideoRecord) -> None:
        """Remove it there as well, if that can be done at once."""
        with contextlib.suppress(APIError, Failure, Refused, TimeoutError):
            async with asyncio.timeout(_ENOUGH):
                await self._provider(record).remove(record.remote)

    def _provider(self, record: VideoRecord) -> Provider:
        return Provider(self._sender, self._aims.upstream_of(record), self._timeout)

    async def _ordered(self, provider: Provider, owner: str, record: VideoRecord, folder: MediaFolder, note: Note) -> str:
        """Its id there."""
        body = await _body(record, folder, provider.target.remote_name)
        tally, failed = self._aims.account(owner, provider.target), True
        try:
            video = await provider.order(body)
            failed = False
        finally:
            tally.close(complete=not failed, failed=failed)
        await note(video.id)
        return video.id

    async def _awaited(self, provider: Provider, id: str, record: VideoRecord, tell: Callable[[int], None]) -> FarVideo:
        """The video, once it is made."""
        pause = _PAUSE
        while (video := await provider.look(id)).status not in _MADE:
            if video.status in _NOT_MADE:
                raise Refused(self._reason(video, record))
            if isinstance(video.progress, int | float) and 0 <= video.progress < 100:
                tell(int(video.progress))
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * _GROWTH)
        return video

    def _reason(self, video: FarVideo, record: VideoRecord) -> ErrorDetail:
        said = video.error or VideoError()
        upstream = self._upstreams.get(record.upstream)
        message = scrub_message(said.message, addresses_of(upstream.base_url)) if upstream is not None else ""
        message = message or f"The provider of the model '{record.model}' did not make the video."
        return ErrorDetail(message=message, type="server_error", code=said.code or "video_failed")


async def _stored(provider: Provider, remote: str, folder: MediaFolder, id: str, owner: str) -> str:
    """The name of the file."""
    async with provider.content(remote) as answer:
        writer = folder.writer(".mp4", type=MEDIA_TYPE, owner=owner, object=id)
        try:
            if _type_of(answer) not in (MEDIA_TYPE, "application/octet-stream", ""):
                raise nonsense()
            async for chunk in answer.chunks():
                await writer.write(chunk)
            if not writer.written:
                raise nonsense()
            return (await writer.finish()).name
        except BaseException:
            await writer.discard()
            raise


async def _thumbnail(provider: Provider, remote: str, folder: MediaFolder, id: str, owner: str) -> str | None:
    """None where there is none: not every upstream makes them."""
    with contextlib.suppress(APIError, Failure, Refused, TimeoutError):
        async with asyncio.timeout(_ENOUGH), provider.content(remote, "variant=thumbnail") as answer:
            data = await read_whole(answer, _LONGEST_THUMBNAIL)
            if _type_of(answer) == THUMBNAIL_TYPE and data:
                return (await folder.put(data, ".webp", type=THUMBNAIL_TYPE, owner=owner, object=id)).name
    return None


def _type_of(answer: Answer) -> str:
    fields = {name.lower(): value for name, value in answer.headers}
    return fields.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


async def _body(record: VideoRecord, folder: MediaFolder, model: str) -> bytes:
    """The order as OpenAI has it, its picture as a data URL; what the client did not say is not said."""
    request = replace(record.request, model=model)
    if record.image is not None:
        file = await folder.open(await folder.named(record.image))
        try:
            data = await file.read()
        finally:
            file.close()
        kind = sniff_picture(data, param=videos.REFERENCE).lower()
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        request = replace(request, input_reference=ImageReference(image_url=url))
    fields = {name: value for name, value in msgspec.to_builtins(request).items() if value is not None}
    if request.input_reference is not None:
        fields[videos.REFERENCE] = {"image_url": request.input_reference.image_url}
    return msgspec.json.encode(fields)


def _as_made(request: CreateVideoRequest, video: FarVideo) -> CreateVideoRequest:
    """The order with what the upstream says of its length and size, where that is said as it should be."""
    told = {"seconds": video.seconds, "size": video.size}
    fields = msgspec.to_builtins(request) | {name: value for name, value in told.items() if value is not None}
    try:
        return msgspec.convert(fields, CreateVideoRequest)
    except msgspec.ValidationError:
        return request
