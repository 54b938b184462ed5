"""Videos: ordered, waited for, and fetched."""

from __future__ import annotations

import time
from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive

from openai_compat.errors import NotFound, UnsupportedCapability
from openai_compat.http.openapi import documented
from routes.media import Bytes, Facts, file_answer
from routes.queries import owner_of, query_of
from schemas.videos import (
    CreateVideoRequest,
    RemixVideoRequest,
    Variant,
    Video,
    VideoContentQuery,
    VideoDeleted,
    VideoList,
    VideoListQuery,
)

_SOON, _LATER = 500, 2000  # milliseconds until a client is to ask again
_YOUNG = 30  # seconds for which a video counts as quick
_FILES = ("input_reference",)
_UNMADE = (409,)
_CONTENT = documented(None, None, media=("video/mp4", "image/webp"), query=VideoContentQuery, refuses=_UNMADE)
_OTHERS = ("edits", "extensions", "characters")
AnyRequest = Request[Any, Any, Any]


@runtime_checkable
class Desk(Protocol):
    """Takes orders and hands out videos; to another key than ``owner`` they do not exist."""

    async def create(self, scope: HTTPScope, receive: Receive) -> Video: ...

    async def remix(self, id: str, scope: HTTPScope, receive: Receive) -> Video: ...

    async def list(self, owner: str, query: VideoListQuery) -> VideoList: ...

    async def get(self, id: str, owner: str) -> Video: ...

    async def delete(self, id: str, owner: str) -> VideoDeleted: ...

    async def content(self, id: str, owner: str, variant: Variant) -> tuple[Facts, Bytes]: ...


class VideoController(Controller):
    path = "/v1/videos"
    tags = ("Videos",)

    @post(status_code=200, operation_class=documented(CreateVideoRequest, Video, files=_FILES))
    async def create(self, request: AnyRequest, videos: NamedDependency[Desk]) -> Response[Video]:
        """Order a video. The answer comes at once, the video later."""
        return _polled(await videos.create(request.scope, request.receive))

    @get(operation_class=documented(None, VideoList, query=VideoListQuery))
    async def list(self, request: AnyRequest, videos: NamedDependency[Desk]) -> VideoList:
        """The videos of this key, the newest first."""
        return await videos.list(owner_of(request), query_of(request, VideoListQuery))

    @get("/{video_id:str}", operation_class=documented(None, Video))
    async def retrieve(self, request: AnyRequest, videos: NamedDependency[Desk], video_id: FromPath[str]) -> Response[Video]:
        """How far a video is."""
        return _polled(await videos.get(video_id, owner_of(request)))

    @delete("/{video_id:str}", status_code=200, operation_class=documented(None, VideoDeleted))
    async def remove(self, request: AnyRequest, videos: NamedDependency[Desk], video_id: FromPath[str]) -> VideoDeleted:
        """Remove a video, made or not."""
        return await videos.delete(video_id, owner_of(request))

    @get("/{video_id:str}/content", operation_class=_CONTENT)
    async def content(self, request: AnyRequest, videos: NamedDependency[Desk], video_id: FromPath[str]) -> Response[Any]:
        """The file of a finished video, or its first frame as a small picture."""
        facts, file = await videos.content(video_id, owner_of(request), query_of(request, VideoContentQuery).variant)
        return file_answer(file, facts, request.headers)

    @post("/{video_id:str}/remix", status_code=200, operation_class=documented(RemixVideoRequest, Video, refuses=_UNMADE))
    async def remix(self, request: AnyRequest, videos: NamedDependency[Desk], video_id: FromPath[str]) -> Response[Video]:
        """Order a finished video again, by another prompt."""
        return _polled(await videos.remix(video_id, request.scope, request.receive))

    @post("/{name:str}", status_code=200, include_in_schema=False)
    async def others(self, name: FromPath[str]) -> None:
        """What OpenAI's API has beside these, and no model here can do."""
        if name in _OTHERS:
            raise UnsupportedCapability("Videos are made here; they are not edited or extended, and there are no characters.")
        raise NotFound("There is nothing to post to here.")


def _polled(video: Video) -> Response[Video]:
    """The SDKs ask again after so many milliseconds."""
    if video.status not in ("queued", "in_progress"):
        return Response(video)
    pause = _SOON if time.time() - video.created_at < _YOUNG else _LATER
    return Response(video, headers={"openai-poll-after-ms": str(pause)})
