"""What the routes that answer with pictures share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from handlers.types import Delta, Picture, ProgressDelta
from openai_compat.media.encode_picture import PictureFormat, encode_picture


async def encoded(picture: Picture, format: PictureFormat = "png", quality: int | None = None) -> bytes:
    """The bytes of a file, made off the event loop."""
    return await asyncio.to_thread(encode_picture, picture, format, quality)


def progress_of(batch: Iterable[Delta]) -> bytes:
    """A comment of a stream, which every reader leaves out; of several steps made meanwhile the last one counts."""
    last = None
    for delta in batch:
        last = delta if isinstance(delta, ProgressDelta) else last
    return b": progress %d/%d\n\n" % (last.done, last.total) if last else b""
