"""What a request holds in memory while it waits: decoded sounds and pictures are far larger than what was sent."""

from __future__ import annotations

from collections.abc import Iterator

from handlers import types as t


def media_bytes(request: t.Request) -> int:
    """Bytes of all samples and pixels."""
    return sum(map(_size, _media_of(request)))


def _media_of(request: t.Request) -> Iterator[t.Picture | t.Sound | None]:
    match request:
        case t.TokenRequest(chat=t.TextRequest() as chat):
            yield from _media_of(chat)
        case t.TextRequest():
            for message in request.messages or ():
                for part in message.parts:
                    if isinstance(part, t.ImagePart | t.AudioPart):
                        yield part.picture if isinstance(part, t.ImagePart) else part.sound
        case t.ImageRequest():
            yield from (*request.images, request.mask)
        case t.EmbedRequest():
            yield from request.images
        case t.AudioTaskRequest():
            yield request.audio
        case t.ImageTaskRequest():
            yield request.picture
        case t.VideoRequest():
            yield request.image


def _size(media: t.Picture | t.Sound | None) -> int:
    if media is None:
        return 0
    return len(media.pcm if isinstance(media, t.Sound) else media.pixels)
