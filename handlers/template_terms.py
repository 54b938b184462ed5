"""What ``chat_template`` and the process that renders agree on: how long, what the answers are, and a call's arguments."""

from __future__ import annotations

import json
from typing import Any

SECONDS = 2.0
"""For one chat of usual length."""
_BYTES_A_SECOND = 8 << 20  # of one that is megabytes long, on a machine that has more to do
RENDERED, REFUSED, TOO_MUCH, FAILED, BROKEN = b"r", b"n", b"m", b"f", b"b"
"""First byte of an answer; behind the first of them stands the text."""


class Arguments(dict[str, Any]):
    """A call's arguments, for templates that take them apart and for those that put them after a text."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)

    def __add__(self, other: str) -> str:
        return str(self) + other

    def __radd__(self, other: str) -> str:
        return other + str(self)


def seconds_for(asked: bytes) -> float:
    """How long rendering what was asked may take."""
    return SECONDS + len(asked) / _BYTES_A_SECOND
