"""How a key stands with its limits, as OpenAI's clients read it: ``x-ratelimit-*``."""

from __future__ import annotations

import math
from functools import lru_cache

Pairs = tuple[tuple[bytes, bytes], ...]
_PREFIX = "x-ratelimit-"
_DURATIONS = 4096  # that are kept


class Told:
    """The three headers about one limit. ``what`` is "requests" or "tokens"."""

    __slots__ = ("_most", "_remaining", "_reset", "_said")

    def __init__(self, what: str, most: int) -> None:
        self._most = most
        self._said = (f"{_PREFIX}limit-{what}".encode(), b"%d" % most)
        self._remaining = f"{_PREFIX}remaining-{what}".encode()
        self._reset = f"{_PREFIX}reset-{what}".encode()

    def headers(self, used: int, clears: float) -> Pairs:
        left = self._most - used
        return self._said, (self._remaining, b"%d" % (left if left > 0 else 0)), (self._reset, spelled(math.ceil(clears)))


@lru_cache(_DURATIONS)
def spelled(seconds: int) -> bytes:
    """As OpenAI writes a duration: ``1s``, ``6m0s``, ``23h59m1s``."""
    hours, minutes = seconds // 3600, seconds // 60 % 60
    text = f"{seconds % 60}s"
    if seconds >= 60:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return text.encode()
