"""Reading what a client wrote into an untyped value: each failure names the field at fault."""

from __future__ import annotations

import secrets
from typing import Any

from openai_compat.errors import InvalidRequest

MAX_DEPTH = 48
MAX_NODES = 50_000
MAX_ID = 128
_KINDS: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(24)}"


def wrong_type(value: Any, wanted: str, where: str) -> InvalidRequest:
    got = _KINDS.get(type(value), "a number")
    message = f"Invalid type for '{where}': expected {wanted}, but got {got} instead."
    return InvalidRequest(message, param=where, code="invalid_type")


def wrong_value(reason: str, where: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{where}': {reason}", param=where, code="invalid_value")


def missing(where: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")


def an_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(value, "an object", where)
    return value


def a_list(value: Any, where: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise wrong_type(value, "an array", where)
    if len(value) > most:
        raise wrong_value(f"at most {most} entries are allowed.", where)
    return value


def a_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, "a string", where)
    return value


def a_name(value: Any, where: str, most: int = 256) -> str:
    """A text that is there and not long."""
    if value is None:
        raise missing(where)
    if not 0 < len(a_text(value, where)) <= most:
        raise wrong_value(f"1 to {most} characters are allowed.", where)
    return str(value)


def an_id(value: Any, prefix: str, where: str) -> str:
    """The client's own where it gave one."""
    return new_id(prefix) if value is None else a_name(value, f"{where}.id", MAX_ID)


def check_shape(value: Any, where: str) -> None:
    """Raises ``InvalidRequest`` for what is nested so deeply, or has so many parts, that writing it out again would fail, or
    hold up all others.
    """
    nodes, level = 0, [value]
    for _ in range(MAX_DEPTH):
        level = [inner for node in level for inner in _inner(node)]
        nodes += len(level)
        if nodes > MAX_NODES:
            raise wrong_value(f"it has more than {MAX_NODES} values.", where)
        if not level:
            return
    raise wrong_value(f"it is nested more than {MAX_DEPTH} levels deep.", where)


def _inner(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
