"""Anthropic publishes no schema, but types: its SDK's. Where that SDK is not installed, its routes are not validated."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

Read = Callable[[str, str], list[str]]


@cache
def reader() -> Read | None:
    """Tells what is wrong with JSON as a `message`, an `event`, a `count` or an `error`."""
    if find_spec("anthropic") is None:
        return None
    from anthropic.types import ErrorResponse, Message, MessageTokensCount, RawMessageStreamEvent
    from pydantic import TypeAdapter, ValidationError

    kinds: dict[str, Any] = {
        "message": TypeAdapter(Message),
        "event": TypeAdapter(RawMessageStreamEvent | ErrorResponse | _ping()),
        "count": TypeAdapter(MessageTokensCount),
        "error": TypeAdapter(ErrorResponse),
    }

    def read(kind: str, text: str) -> list[str]:
        try:
            kinds[kind].validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return [f"{kind}.{'.'.join(map(str, first['loc']))}: {first['msg']}"[:300]]
        return []

    return read


def _ping() -> Any:
    """What keeps a stream alive is in no type."""
    from typing import Literal

    from typing_extensions import TypedDict

    return TypedDict("Ping", {"type": Literal["ping"]})
