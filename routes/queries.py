"""Whose request it is, and the parameters of its address, checked as a body's fields are."""

from __future__ import annotations

from typing import Any, TypeVar

from litestar import Request
from msgspec import Struct

from schemas.form import decode_form

QueryT = TypeVar("QueryT", bound=Struct)


def owner_of(request: Request[Any, Any, Any]) -> str:
    """The id of the key that asks."""
    return str(request.scope["state"].get("key_id", ""))


def query_of(request: Request[Any, Any, Any], type: type[QueryT]) -> QueryT:
    """Raises ``InvalidRequest``."""
    return decode_form(_Query(fields=request.query_params.dict()), type)


class _Query(Struct, frozen=True):
    fields: dict[str, list[str]]
