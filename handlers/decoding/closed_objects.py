"""Objects that list their properties have no others in an answer, unless the schema says so.

To JSON Schema an object without ``additionalProperties`` is open. A small model that may go on writing names does: it copies
the schema's own keywords into a call's arguments, or writes names until ``max_tokens``. Whoever lists properties means these,
and other servers' grammars read it so, too. Closing only narrows: each answer keeps to the schema as the client wrote it.
"""

from __future__ import annotations

from typing import Any

_LISTS = frozenset({"anyOf", "oneOf", "prefixItems", "items"})
_SINGLE = frozenset({"items", "additionalItems", "additionalProperties"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_SAID = frozenset({"additionalProperties", "patternProperties", "minProperties"})
_BESIDE = frozenset({"$ref", "anyOf", "oneOf"})


def closed(schema: Any) -> Any:
    """``schema`` with its objects closed; as it is where objects are put together of parts, each of which must stay open."""
    return schema if _combines(schema) else _closed(schema)


def _combines(schema: Any) -> bool:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if "allOf" in node or ("properties" in node and not _BESIDE.isdisjoint(node)):
                return True
            waiting += node.values()
    return False


def _closed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    inner = {keyword: _inner(keyword, value) for keyword, value in node.items()}
    return {**inner, "additionalProperties": False} if _lists_all(node) else inner


def _inner(keyword: str, value: Any) -> Any:
    """Values of ``const`` and ``enum`` are no schemas, whatever their names are."""
    if keyword in _NAMED and isinstance(value, dict):
        return {name: _closed(schema) for name, schema in value.items()}
    if keyword in _LISTS and isinstance(value, list):
        return [_closed(schema) for schema in value]
    return _closed(value) if keyword in _SINGLE else value


def _lists_all(node: dict[str, Any]) -> bool:
    named, required = node.get("properties"), node.get("required", [])
    if not isinstance(named, dict) or not isinstance(required, list):
        return False
    return _SAID.isdisjoint(node) and all(name in named for name in map(str, required))
