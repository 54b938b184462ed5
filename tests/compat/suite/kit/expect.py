"""What many checks look at in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

REFUSED = frozenset({400, 422, 501})


@contextmanager
def unless_refused(*names: str) -> Iterator[None]:
    """A server may lack what a field asks for if it says so, naming the field; ignoring it in silence is a failure."""
    try:
        yield
    except Exception as error:
        said = f"{getattr(error, 'param', '')} {error}"
        if getattr(error, "status_code", None) in REFUSED and any(name in said for name in names):
            pytest.skip(f"refused: {error}")
        raise


def assert_error(answer: Any, *statuses: int, code: str | None = None, param: str | None = None) -> None:
    """OpenAI's error body with one of these statuses. What is in its code is a check of its own, and the schema's."""
    assert answer.status in statuses, f"status {answer.status}, not {' or '.join(map(str, statuses))}: {answer.text[:120]}"
    try:
        body = answer.json()
    except ValueError:
        raise AssertionError(f"no JSON: {answer.body[:120]!r}") from None
    error = body.get("error") if isinstance(body, dict) else None
    assert isinstance(error, dict), f"no OpenAI error: {answer.text[:120]}"
    assert error.get("message"), f"no message: {answer.text[:120]}"
    assert isinstance(error.get("type"), str), f"no type: {answer.text[:120]}"
    assert code is None or error.get("code") == code, f"code {error.get('code')!r}, not {code!r}"
    assert param is None or error.get("param") == param, f"param {error.get('param')!r}, not {param!r}"


def joined(chunks: Iterable[Any], index: int = 0) -> str:
    """The text of one choice of a stream."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(delta.content or "" for delta in deltas)


def finishes(chunks: Iterable[Any], index: int = 0) -> list[str]:
    return [
        choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.index == index and choice.finish_reason
    ]
