"""The pictures and sounds of a request, fetched and decoded while its client is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Request

from handlers.types import Picture, Sound
from openai_compat.http.disconnect import attended
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate.attachments import Attachment
from openai_compat.worker.runner import Runner


async def decoded(
    request: Request[Any, Any, Any], files: Sequence[Attachment], media: MediaDecoder, runner: Runner, facts: RelayFacts
) -> Mapping[str, Picture | Sound]:
    """By the fields that brought them. The request's body must have been read before.

    Raises:
        InvalidRequest, Unavailable: as ``MediaDecoder.decode_together``.
        Cancelled: the client has left.
    """
    if not files:
        return {}
    return await attended(request, media.decode_together(files, rate=runner.handler.audio_rate, fetch=facts.fetch))
