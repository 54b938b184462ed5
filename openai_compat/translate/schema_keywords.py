"""Which keywords of JSON Schema an answer can be held to. Others are refused by name: no rule is ever left out quietly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openai_compat.errors import InvalidRequest

MAX_PATTERN_BYTES = 1024
MAX_MULTIPLE = 10_000

_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"items", "additionalItems", "additionalProperties"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_VALUES = frozenset({"enum", "const"})
_PLAIN = frozenset(
    {
        "type",
        "required",
        "minProperties",
        "maxProperties",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "$ref",
        "$id",
        "$schema",
        "$anchor",
    }
)
_NOTES = frozenset(
    {
        "title",
        "description",
        "default",
        "example",
        "examples",
        "deprecated",
        "discriminator",
        "readOnly",
        "writeOnly",
        "$comment",
    }
)
"""They hold nobody to anything; ``discriminator`` is a hint beside an ``oneOf`` that says the same."""
SUPPORTED = _LISTS | _SINGLE | _NAMED | _VALUES | _PLAIN | _NOTES
_ESCAPED = frozenset(map(chr, range(32))) - frozenset("\n\r\t\b\f") | {"\x7f"}


def check_keywords(schema: Any, param: str) -> None:
    """Raises ``InvalidRequest`` naming the keyword and where it stands. ``schema`` is within bounds already."""
    waiting = [("#", schema)]
    while waiting:
        where, node = waiting.pop()
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            raise InvalidRequest(f"At '{where}' a schema is expected.", param=param, code="invalid_value")
        for keyword, value in node.items():
            if keyword not in SUPPORTED and (not keyword.startswith("x-") or keyword == "x-guidance"):
                raise _refused(keyword, where, "is not supported", param)
            _check_value(keyword, value, where, param)
            waiting += _inner(keyword, value, f"{where}/{keyword}")
        _check_object(node, where, param)


def _inner(keyword: str, value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """The schemas that stand in a keyword's value. What has the wrong type is told when the grammar is built."""
    if keyword in _NAMED and isinstance(value, dict):
        yield from ((f"{where}/{name}", inner) for name, inner in value.items())
    elif (keyword in _LISTS or keyword == "items") and isinstance(value, list):
        yield from ((f"{where}/{number}", inner) for number, inner in enumerate(value))
    elif keyword in _SINGLE:
        yield where, value


def _check_value(keyword: str, value: Any, where: str, param: str) -> None:
    patterns = value if keyword == "patternProperties" and isinstance(value, dict) else [value] if keyword == "pattern" else []
    if any(isinstance(pattern, str) and len(pattern.encode()) > MAX_PATTERN_BYTES for pattern in patterns):
        raise _refused(keyword, where, f"may have {MAX_PATTERN_BYTES} bytes", param)
    if keyword == "multipleOf" and isinstance(value, int | float) and value > MAX_MULTIPLE:
        raise _refused(keyword, where, f"may be {MAX_MULTIPLE} at most", param)
    if keyword == "$ref" and isinstance(value, str) and "://" in value:
        raise _refused(keyword, where, "can only point into the schema itself", param)
    if keyword in _VALUES | {"properties"} and any(not _ESCAPED.isdisjoint(text) for text in _texts(value)):
        raise _refused(keyword, where, "may hold no control characters", param)


def _check_object(node: dict[str, Any], where: str, param: str) -> None:
    """A name that comes twice counts once, and no grammar can tell: beyond the required ones only one more is sure."""
    least, required = node.get("minProperties"), node.get("required")
    sure = len(set(map(str, required))) if isinstance(required, list) else 0
    if isinstance(least, int) and least > sure + 1:
        raise _refused("minProperties", where, "can be one more than there are required properties at most", param)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names too."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict):
            waiting += [*inner, *inner.values()]
        elif isinstance(inner, list):
            waiting += inner


def _refused(keyword: str, where: str, reason: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"The keyword '{keyword}' at '{where}' {reason}.", param=param, code="invalid_value")
