"""Requests written as clients write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from openai_compat.translate.anthropic.request import Turn, to_turn
from schemas.anthropic import CreateMessageRequest
from schemas.decode import decode

Ask = Callable[..., Turn]


@pytest.fixture
def ask() -> Ask:
    """The turn of a request with these fields; ``content`` is one user message."""

    def asked(content: Any = "Hello", **fields: Any) -> Turn:
        body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}
        return to_turn(decode(json.dumps(body).encode(), CreateMessageRequest))

    return asked
