"""Making a video in a worker: asked by the gateway alone, answered in parcels as it goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody
from msgspec.structs import replace

from handlers.types import Delta, FrameDelta, Picture, ProgressDelta, VideoRequest, VideoResult
from openai_compat.errors import APIError, error_body
from openai_compat.http.binary import ByteStream
from openai_compat.http.parcels import MEDIA_TYPE, Kind, parcel
from openai_compat.media.decoder import MediaDecoder
from openai_compat.media.video import VideoEncoder, thumbnail
from openai_compat.protocol import RelayFacts
from openai_compat.translate import videos
from openai_compat.translate.attachments import picture_at
from openai_compat.worker.job import Job
from openai_compat.worker.runner import Runner
from routes.apart import apart
from schemas.decode import decode
from schemas.videos import CreateVideoRequest

_PIECE = 1 << 18


class VideoWorkerController(Controller):
    path = "/v1/videos"

    @post("", status_code=200)
    async def make(
        self,
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Progress, then the file."""
        wire = decode(body, CreateVideoRequest)
        request = videos.to_request(wire, await _picture(wire, runner, facts, media), facts)
        return ByteStream(_answer(runner, request, facts), MEDIA_TYPE)


async def _picture(wire: CreateVideoRequest, runner: Runner, facts: RelayFacts, media: MediaDecoder) -> Picture | None:
    given = videos.reference(wire)
    if given is None:
        return None
    file = replace(given, param=videos.REFERENCE)
    return picture_at(await media.decode_together((file,), rate=runner.handler.audio_rate, fetch=facts.fetch), file.param)


async def _answer(runner: Runner, request: VideoRequest, facts: RelayFacts) -> AsyncGenerator[bytes, None]:
    """A failure before the first parcel is the answer's status, a later one a parcel."""
    job = runner.submit("generate_video", request, request_id=facts.request_id, deadline=facts.deadline)
    film = _Film()
    began = False
    try:
        async for batch in job.batches():
            began = True
            yield await film.take(batch)
        async for piece in film.end(job):
            began = True
            yield piece
    except APIError as error:
        if not began:
            raise
        yield parcel(Kind.ERROR, msgspec.json.encode(error_body(error)))
    finally:
        job.cancel()
        film.close()


class _Film:
    """The file as it grows."""

    def __init__(self) -> None:
        self._encoder = VideoEncoder()
        self._first: Picture | None = None

    async def take(self, batch: Sequence[Delta]) -> bytes:
        """What is to be told of ``batch``; nothing where it holds frames only."""
        frames = [delta.picture for delta in batch if isinstance(delta, FrameDelta)]
        if frames:
            self._first = self._first or frames[0]
            await apart(self._add, frames)
        steps = [delta for delta in batch if isinstance(delta, ProgressDelta)]
        return parcel(Kind.PROGRESS, msgspec.json.encode(steps[-1])) if steps else b""

    async def end(self, job: Job) -> AsyncGenerator[bytes, None]:
        """What it is, what it looks like, and the file. Raises the job's error."""
        result: Any = await job.result()
        if not isinstance(result, VideoResult) or self._first is None:
            raise APIError("The model made no video.")
        width, height = self._encoder.size
        frames = self._encoder.frames
        content = await apart(self._encoder.finish, result.rate)
        facts = {"frames": frames, "rate": result.rate, "width": width, "height": height}
        yield parcel(Kind.FACTS, msgspec.json.encode(facts))
        yield parcel(Kind.THUMBNAIL, await apart(thumbnail, self._first))
        for start in range(0, len(content), _PIECE):
            yield parcel(Kind.CONTENT, content[start : start + _PIECE])
        yield parcel(Kind.END)

    def close(self) -> None:
        self._encoder.close()

    def _add(self, frames: Sequence[Picture]) -> None:
        for frame in frames:
            self._encoder.add(frame)
