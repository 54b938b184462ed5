"""Answers to HTTP/1.0, which knows no chunks: without a length they end with their connection (RFC 9112, 6.1)."""

from __future__ import annotations

from typing import Any


class _AnyLength:
    """In the place of the number of bytes that are still to come: none is too many, and none is missing."""

    def __lt__(self, other: object) -> bool:
        return False

    def __sub__(self, size: int) -> _AnyLength:
        return self

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


_ANY_LENGTH = _AnyLength()


def unframe(cycle: Any) -> None:
    """Let uvicorn write the answer of ``cycle`` as it is: it would frame it in chunks, whatever the client speaks."""
    cycle.chunked_encoding = False
    cycle.expected_content_length = _ANY_LENGTH
