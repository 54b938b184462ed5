"""`/v1/videos`: requests, the object, and lists of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from schemas.common import Mode, ModelName, Name, Seed
from schemas.messages import Url

MAX_PROMPT = 32_000
MAX_SECONDS = 120.0
Status: TypeAlias = Literal["queued", "in_progress", "completed", "failed"]
Variant: TypeAlias = Literal["video", "thumbnail", "spritesheet"]
Prompt = Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT)]
# OpenAI's is a text; a number means the same.
Duration = Annotated[str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,3})?$")] | Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
Size = Annotated[str, Meta(pattern=r"^[0-9]{1,5}x[0-9]{1,5}$", description="`WIDTHxHEIGHT` in pixels.")]


class ImageReference(Struct, frozen=True, kw_only=True):
    image_url: Url | None = None
    file_id: Name | None = None


class CreateVideoRequest(Struct, frozen=True, kw_only=True):
    """The last group is ours, beyond OpenAI's. In a form ``input_reference`` may be a file."""

    prompt: Prompt
    model: ModelName | None = None
    seconds: Duration | None = None
    size: Size | None = None
    input_reference: ImageReference | None = None

    negative_prompt: Annotated[str, Meta(max_length=MAX_PROMPT)] | None = None
    frames: Annotated[int, Meta(ge=1, le=1024)] | None = None
    fps: Annotated[float, Meta(ge=0.1, le=120)] | None = None
    steps: Annotated[int, Meta(ge=1, le=500)] | None = None
    guidance: Annotated[float, Meta(ge=0, le=100)] | None = None
    seed: Seed | None = None
    mode: Mode | None = None
    user: Name | None = None


class RemixVideoRequest(Struct, frozen=True, kw_only=True):
    prompt: Prompt


class VideoListQuery(Struct, frozen=True, kw_only=True):
    after: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


class VideoContentQuery(Struct, frozen=True, kw_only=True):
    variant: Variant = "video"


# ---------------------------------------------------------------- answers


class VideoError(Struct, frozen=True, kw_only=True):
    code: str
    message: str
    param: str | None = None


class Video(Struct, frozen=True, kw_only=True):
    """``seconds`` and ``size`` are what was asked for, ``auto`` where nothing was; once it is made, what it has."""

    id: str
    created_at: int
    status: Status
    model: str
    prompt: str
    seconds: str
    size: str
    progress: int = 0
    completed_at: int | None = None
    expires_at: int | None = None
    error: VideoError | None = None
    remixed_from_video_id: str | None = None
    object: Literal["video"] = "video"


class VideoList(Struct, frozen=True, kw_only=True):
    data: tuple[Video, ...]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"


class VideoDeleted(Struct, frozen=True, kw_only=True):
    id: str
    deleted: bool = True
    object: Literal["video.deleted"] = "video.deleted"
