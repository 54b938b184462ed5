"""Why a video was not made, as far as its owner may know."""

from __future__ import annotations

import logging

from openai_compat.errors import APIError, error_body
from openai_compat.gateway.jobs.making import Refused
from openai_compat.translate import videos
from schemas.videos import VideoError

RESTARTED = VideoError(code="server_restarted", message="The server was restarted while it made the video.")
INTERNAL = VideoError(code="internal_error", message="The server had an error while it made the video.")
_logger = logging.getLogger(__name__)


def error_of(error: Exception) -> VideoError:
    """What a client may know of it; what is no error of ours is told to the log."""
    if isinstance(error, Refused):
        detail = error.detail
        return VideoError(code=detail.code or detail.type, message=detail.message, param=videos.wire_name(detail.param))
    if isinstance(error, APIError):
        body = error_body(error)["error"]
        return VideoError(code=body["code"] or body["type"], message=error.message, param=error.param)
    _logger.error("a video failed", exc_info=error)
    return INTERNAL
