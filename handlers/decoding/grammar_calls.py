"""Grammars of answers that may be a call, and may be something else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from handlers.decoding import grammar_library as library

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
Tools = Sequence[tuple[str, dict[str, Any]]]


def of_marked_calls(tools: Tools, *, parallel: bool) -> str:
    """Any text, in which whatever follows the mark of a call is a call; without ``parallel`` the first one ends the answer."""
    names = " | ".join(f"t{number}" for number in range(len(tools)))
    rules = [
        "start: call* TEXT" if parallel else "start: TEXT | call",
        f"call: head ({names})",
        f"head[lazy]: TEXT {library.literal(_OPEN)}",
        r"TEXT: /(.|\n)*/",
    ]
    return library.of_lark("\n".join([*rules, *_rules(tools, "\n", f"\n{_CLOSE}")]))


def of_calls_or(tools: Tools, most: int, kind: str, source: str) -> str:
    """A bare call, or a list of up to ``most``, or what the client's own format asks for. Raises ``ValueError``."""
    if kind == "choice":
        choices = " | ".join(map(library.literal, json.loads(source)))
        return library.of_lark("\n".join([f"start: calls | {choices}", f"calls: {_json(_any_call(tools, most))}"]))
    wanted = {"json_object": '{"type": "object"}', "json_schema": source}.get(kind)
    if wanted is None:
        raise ValueError("it does not go together with tools")
    return library.of_json_schema(json.dumps(_any_call(tools, most, _moved(json.loads(wanted), "#/anyOf/0"))))


def _any_call(tools: Tools, most: int, *others: Any) -> dict[str, Any]:
    """One schema of all: a grammar cannot be in two JSON schemas at once."""
    call = {"$ref": "#/$defs/call"}
    several = [{"type": "array", "items": call, "minItems": 1, "maxItems": most}] if most > 1 else []
    calls = [_call(number, name, schema) for number, (name, schema) in enumerate(tools)]
    return {"$defs": {"call": {"anyOf": calls}}, "anyOf": [*others, call, *several]}


def _call(number: int, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    place = f"#/$defs/call/anyOf/{number}/properties/arguments"
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": _moved({"type": "object", **schema}, place)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """The schema with its references to itself made right for where it is put."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: place + value[1:] if _is_own(key, value) else _moved(value, place) for key, value in schema.items()}


def _is_own(key: str, value: Any) -> bool:
    return key == "$ref" and isinstance(value, str) and value.startswith("#")


def _json(schema: dict[str, Any]) -> str:
    return library.json_rule(json.dumps(schema))


def _rules(tools: Tools, before: str, behind: str) -> list[str]:
    rules = []
    for number, (name, schema) in enumerate(tools):
        head = library.literal(before + '{"name": ' + json.dumps(name) + ', "arguments": ')
        rules += [
            f"t{number}: {head} a{number} {library.literal('}' + behind)}",
            f"a{number}: {_json({'type': 'object', **schema})}",
        ]
    return rules
