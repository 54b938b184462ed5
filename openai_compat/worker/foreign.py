"""Exceptions of libraries, as clients may know them."""

from __future__ import annotations

import logging

from handlers.memory import is_out_of_memory
from openai_compat.errors import APIError, InsufficientMemory

logger = logging.getLogger(__name__)


def foreign(error: BaseException) -> APIError:
    """What a client may know of an exception that is not ours; the log gets all of it."""
    logger.error("the model failed", exc_info=error)
    if is_out_of_memory(error):
        message = "The model ran out of memory; try a smaller request, or again later."
        return InsufficientMemory(message, retry_after=1.0, retry=False)
    return APIError("The model failed while processing the request.")
