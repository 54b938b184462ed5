"""How large a client's JSON schema may be, so that no grammar made of it can hold up the server."""

from __future__ import annotations

from typing import Any

import msgspec

from openai_compat.errors import InvalidRequest

MAX_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_NODES = 1000
MAX_ENUM = 1000


def check_bounds(schema: Any, param: str) -> None:
    """Raises ``InvalidRequest`` naming ``param``. A node is an object or a list; ``enum`` values count by themselves."""
    size = len(msgspec.json.encode(schema))
    if size > MAX_BYTES:
        raise InvalidRequest(f"A schema may have {MAX_BYTES} bytes; this one has {size}.", param=param)
    nodes = 0
    level = [schema]
    for depth in range(MAX_DEPTH + 1):
        inner = [value for node in level for value in _inner(node, param)]
        nodes += len(inner)
        if nodes > MAX_NODES:
            raise InvalidRequest(f"A schema may have {MAX_NODES} objects and lists.", param=param)
        if not inner:
            return
        if depth == MAX_DEPTH:
            break
        level = inner
    raise InvalidRequest(f"A schema may be nested {MAX_DEPTH} levels deep.", param=param)


def _inner(node: Any, param: str) -> list[Any]:
    if isinstance(node, dict):
        enum = node.get("enum")
        if isinstance(enum, list) and len(enum) > MAX_ENUM:
            raise InvalidRequest(f"An enum may have {MAX_ENUM} values.", param=param)
        return [value for value in node.values() if isinstance(value, dict | list)]
    return [value for value in node if isinstance(value, dict | list)] if isinstance(node, list) else []
