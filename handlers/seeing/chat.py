"""A chat with pictures in it: what to look at, and what to look for.

The pictures are those of the last user message that has any. A model that looks for whatever it is told takes its labels from
the text of the last user message: a JSON list of texts, or labels between commas, semicolons or line breaks.
"""

from __future__ import annotations

import json
import re

from handlers import types as t
from openai_compat.errors import InvalidRequest

MOST_LABELS = 1000
LONGEST_LABEL = 256
_BETWEEN = re.compile(r"[,;\n]+")


def pictures_of(request: t.TextRequest) -> tuple[t.Picture, ...]:
    """Raises ``InvalidRequest`` where no user message has one."""
    for message in reversed(request.messages or ()):
        pictures = tuple(part.picture for part in message.parts if isinstance(part, t.ImagePart))
        if pictures and message.role == "user":
            return pictures
    raise InvalidRequest("This model needs a picture in a user message.", param="messages")


def labels_of(request: t.TextRequest) -> tuple[str, ...]:
    """Raises ``InvalidRequest`` where the last user message names none."""
    texts = [message.text for message in request.messages or () if message.role == "user" and message.text.strip()]
    labels = _split(texts[-1].strip()) if texts else ()
    if not labels or len(labels) > MOST_LABELS or any(len(label) > LONGEST_LABEL for label in labels):
        wanted = f"1 to {MOST_LABELS} labels of at most {LONGEST_LABEL} letters, separated by commas"
        raise InvalidRequest(f"This model looks for what the text names: {wanted}.", param="messages")
    return labels


def _split(text: str) -> tuple[str, ...]:
    parts: list[str] = _BETWEEN.split(text)
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list) and all(isinstance(part, str) for part in listed):
            parts = listed
    return tuple(dict.fromkeys(label for part in parts if (label := part.strip())))
