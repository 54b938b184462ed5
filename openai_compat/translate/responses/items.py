"""The items of an input: the many ways in which clients write them → ``Item``, which is what is kept, listed and answered.

Items that only other servers can serve stay as they came: they are listed, and the model is not shown them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from openai_compat.errors import InvalidRequest
from openai_compat.translate.responses.parts import MAX_PARTS, are_parts, given_parts, said_parts
from openai_compat.translate.responses.reading import (
    a_list,
    a_name,
    a_text,
    an_id,
    an_object,
    check_shape,
    missing,
    wrong_value,
)
from openai_compat.translate.responses.tools import check_tools
from schemas.responses import MAX_ITEMS
from schemas.responses_answer import Item

MAX_CONTENTS = 8192
"""Parts of all messages and all reasoning of one input together."""
_ROLES = ("user", "assistant", "system", "developer")
_PARTS = ("content", "summary")
_LOOSE = ("arguments", "output")
"""Texts, but some clients send what they are the JSON of."""
_STATES = ("in_progress", "completed", "incomplete")


def read_items(given: str | list[Any] | None, where: str = "input") -> list[Item]:
    """Each as an ``Item`` of its own. Raises ``InvalidRequest`` naming what is wrong: ``input[3].content[0].image_url``."""
    if given is None:
        return []
    if isinstance(given, str):
        return [_message({"role": "user", "content": given}, where)]
    _check_amount(a_list(given, where, MAX_ITEMS), where)
    return [_read(item, f"{where}[{number}]") for number, item in enumerate(given)]


def _check_amount(given: list[Any], where: str) -> None:
    """Of all items together, so that reading them holds up nobody."""
    items = [item for item in given if isinstance(item, dict)]
    lists = [value for item in items for key in _PARTS if isinstance(value := item.get(key), list)]
    if sum(map(len, lists)) > MAX_CONTENTS:
        raise wrong_value(f"it has more than {MAX_CONTENTS} parts of content.", where)
    check_shape([item.get(key) for item in items for key in _LOOSE], where)
    check_shape([item for item in items if not _is_known(item)], where)


def _is_known(item: dict[str, Any]) -> bool:
    kind = item.get("type", "message")
    return kind is None or (isinstance(kind, str) and kind in _READERS and kind != "additional_tools")


def _read(given: Any, where: str) -> Item:
    item = an_object(given, where)
    kind = item.get("type")
    if kind is None:
        return _untyped(item, where)
    reader = _READERS.get(a_name(kind, f"{where}.type"))
    return _foreign(item, where) if reader is None else reader(item, where)


def _untyped(item: dict[str, Any], where: str) -> Item:
    if "role" in item:
        return _message(item, where)
    if item.get("id") is not None and len(item) <= len(("type", "id")):
        return _reference(item, where)
    raise missing(f"{where}.type")


def _message(item: dict[str, Any], where: str) -> Item:
    role = a_name(item.get("role"), f"{where}.role")
    if role not in _ROLES:
        raise wrong_value(f"it is none of {', '.join(_ROLES)}.", f"{where}.role")
    spot, content = f"{where}.content" if where.endswith("]") else where, item.get("content")
    parts = said_parts(content, spot) if role == "assistant" else given_parts(content, spot)
    message = {
        "type": "message",
        "id": an_id(item.get("id"), "msg", where),
        "role": role,
        "status": _status(item),
        "content": parts,
    }
    if role == "assistant" and item.get("phase") in ("commentary", "final_answer"):
        message["phase"] = item["phase"]
    return message


def _call(item: dict[str, Any], where: str) -> Item:
    arguments = item.get("arguments")
    return {
        "type": "function_call",
        "id": an_id(item.get("id"), "fc", where),
        **_named(item, where),
        "arguments": arguments if isinstance(arguments, str) else _as_json(arguments or {}, f"{where}.arguments"),
        "status": _status(item),
    }


def _custom_call(item: dict[str, Any], where: str) -> Item:
    text = item.get("input")
    return {
        "type": "custom_tool_call",
        "id": an_id(item.get("id"), "ctc", where),
        **_named(item, where),
        "input": "" if text is None else a_text(text, f"{where}.input"),
        "status": _status(item),
    }


def _named(item: dict[str, Any], where: str) -> dict[str, str]:
    names = {
        "call_id": a_name(item.get("call_id") or item.get("id"), f"{where}.call_id"),
        "name": a_name(item.get("name"), f"{where}.name"),
    }
    if item.get("namespace") is not None:
        names["namespace"] = a_name(item["namespace"], f"{where}.namespace")
    return names


def _output(prefix: str) -> Callable[[dict[str, Any], str], Item]:
    def read(item: dict[str, Any], where: str) -> Item:
        return {
            "type": item["type"],
            "id": an_id(item.get("id"), prefix, where),
            "call_id": a_name(item.get("call_id"), f"{where}.call_id"),
            "output": _result(item.get("output"), f"{where}.output"),
            "status": _status(item),
        }

    return read


def _result(output: Any, where: str) -> str | list[dict[str, Any]]:
    """A text or parts; whatever else a tool gave is its JSON text."""
    if output is None:
        return ""
    if isinstance(output, str):
        return output
    return given_parts(output, where) if output and are_parts(output) else _as_json(output, where)


def _reasoning(item: dict[str, Any], where: str) -> Item:
    found: Item = {
        "type": "reasoning",
        "id": an_id(item.get("id"), "rs", where),
        "summary": _thoughts(item.get("summary"), "summary_text", f"{where}.summary"),
    }
    if item.get("content") is not None:
        found["content"] = _thoughts(item["content"], "reasoning_text", f"{where}.content")
    if item.get("encrypted_content") is not None:
        found["encrypted_content"] = a_text(item["encrypted_content"], f"{where}.encrypted_content")
    return found


def _thoughts(parts: Any, kind: str, where: str) -> list[dict[str, Any]]:
    if parts is None:
        return []
    if isinstance(parts, str):
        return [{"type": kind, "text": parts}]
    texts = []
    for number, part in enumerate(a_list(parts, where, MAX_PARTS)):
        spot = f"{where}[{number}]"
        texts.append(a_text(an_object(part, spot).get("text"), f"{spot}.text"))
    return [{"type": kind, "text": text} for text in texts]


def _reference(item: dict[str, Any], where: str) -> Item:
    return {"type": "item_reference", "id": a_name(item.get("id"), f"{where}.id")}


def _foreign(item: dict[str, Any], where: str) -> Item:
    return {**item, "id": an_id(item.get("id"), "item", where)}


def _status(item: dict[str, Any]) -> str:
    status = item.get("status")
    return status if status in _STATES else "completed"


def _more_tools(item: dict[str, Any], where: str) -> Item:
    check_tools(item.get("tools"), f"{where}.tools")
    return _foreign(item, where)


def _as_json(value: Any, where: str) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (RecursionError, UnicodeEncodeError):
        raise InvalidRequest("The value cannot be written as JSON.", param=where) from None


_READERS: dict[str, Callable[[dict[str, Any], str], Item]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output("fco"),
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output("ctco"),
    "reasoning": _reasoning,
    "item_reference": _reference,
    "additional_tools": _more_tools,
}
