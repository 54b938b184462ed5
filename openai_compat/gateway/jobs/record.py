"""What is kept of a video, and what clients see of it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from openai_compat.gateway.store.objects import Kept
from openai_compat.translate import videos
from schemas.videos import CreateVideoRequest, Status, Video, VideoError

KIND = "video"
QUEUED: Status = "queued"
RUNNING: Status = "in_progress"
COMPLETED: Status = "completed"
FAILED: Status = "failed"


class Film(Struct, frozen=True, kw_only=True):
    """What a finished video is; sizes in pixels, ``rate`` in frames a second."""

    frames: int
    rate: float
    width: int
    height: int


class VideoRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as it is kept. ``model`` is the name that the client reads, ``mode`` what that name says.

    ``request`` has no picture: that is a file of its own, as are the video and its thumbnail, by their names. ``upstream`` is
    who makes it, where this machine does not, and ``remote`` its id there.
    """

    model_id: str
    model: str
    mode: str | None = None
    request: CreateVideoRequest
    image: str | None = None
    video: str | None = None
    thumbnail: str | None = None
    film: Film | None = None
    completed_at: int | None = None
    error: VideoError | None = None
    remixed_from: str | None = None
    upstream: str = ""
    remote: str = ""

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def of(cls, kept: Kept) -> VideoRecord:
        return msgspec.json.decode(kept.body, type=cls)


def shown(kept: Kept, record: VideoRecord, progress: int) -> Video:
    """``progress`` is percent, for a video that is being made."""
    film = record.film
    seconds = film.frames / film.rate if film else videos.seconds_of(record.request)
    size = (film.width, film.height) if film else videos.size_of(record.request)
    return Video(
        id=kept.id,
        created_at=kept.created,
        status=kept.status,  # type: ignore[arg-type]  # only these four are ever written
        model=record.model,
        prompt=record.request.prompt,
        seconds=videos.shown_seconds(seconds),
        size=videos.shown_size(size),
        progress=100 if kept.status == COMPLETED else progress,
        completed_at=record.completed_at,
        expires_at=kept.expires,
        error=record.error,
        remixed_from_video_id=record.remixed_from,
    )
