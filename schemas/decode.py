"""Bytes of a request body → Struct, with every failure an ``InvalidRequest`` in words a client's author understands."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from openai_compat.errors import InvalidRequest

T = TypeVar("T", bound=msgspec.Struct)

_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "null": "null",
    "bytes": "a base64 string",
}
_LONGEST_MESSAGE = 300
_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>[^`]+)`$")
_TYPE = re.compile(r"^Expected `(?P<want>[^`]+)`, got `(?P<got>[^`]+)`$")
_BOUND = re.compile(r"^Expected `(?P<want>[^`]+)` (?P<bound>(?:of length |matching )?.+)$")
_VALUE = re.compile(r"^Invalid (?:enum )?value (?P<value>.+)$", re.DOTALL)
_SYNTAX = re.compile(r"^JSON is malformed: (?P<why>.+) \(byte (?P<byte>\d+)\)$")


def decode(body: bytes, type: type[T]) -> T:
    """Decode a JSON object. Raises ``InvalidRequest`` with ``param`` in OpenAI's spelling, and nothing else."""
    try:
        str(body, "utf-8")
        return msgspec.json.decode(body, type=type)
    except UnicodeDecodeError:
        raise InvalidRequest("The request body is not valid UTF-8.", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("The JSON of the request body is nested too deeply.", code="invalid_json") from None
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(_malformed(body, str(error)), code="invalid_json") from None


def decoded_json(text: str) -> Any:
    """What a text holds as JSON. Raises ``InvalidRequest`` where that is nothing."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("The text is not valid JSON.", code="invalid_json") from None


def _malformed(body: bytes, message: str) -> str:
    if not body.strip():
        return "The request body is empty; a JSON object is expected."
    if syntax := _SYNTAX.match(message):
        return f"The request body is not valid JSON: {syntax['why']} at byte {syntax['byte']}."
    return "The request body is not valid JSON: it ends too early."


def invalid(message: str, spelled: Callable[[str], str] = str) -> InvalidRequest:
    """Say msgspec's message in OpenAI's words; ``$.messages[0].role`` becomes the param ``messages[0].role``.

    ``spelled`` tells how the client wrote a path.
    """
    place = _PLACE.search(message)
    path = spelled(place["path"].replace("[...]", "")) if place else ""
    fault = message[: place.start()] if place else message
    if missing := _MISSING.match(fault):
        param = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if unknown := _UNKNOWN.match(fault):
        param = _shortened(f"{path}.{unknown['field']}" if path else unknown["field"])
        return InvalidRequest(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    if not path:
        return InvalidRequest(f"The request body must be a JSON object: {_explain(fault)}", code="invalid_json")
    subject = f"key in '{path}'" if place and place["key"] else f"'{path}'"
    code = "invalid_type" if _TYPE.match(fault) else "invalid_value"
    what = "type" if code == "invalid_type" else "value"
    return InvalidRequest(f"Invalid {what} for {subject}: {_explain(fault)}", param=path, code=code)


def _explain(fault: str) -> str:
    if wrong := _TYPE.match(fault):
        return f"expected {_words(wrong['want'])}, but got {_words(wrong['got'])} instead."
    if bound := _BOUND.match(fault):
        return f"expected {_words(bound['want'])} {bound['bound']}."
    if value := _VALUE.match(fault):
        return f"{_shortened(value['value'])} is not one of the supported values."
    return f"{_shortened(fault)}."


def _words(types: str) -> str:
    *others, last = (_WORDS.get(name, name) for name in types.split(" | "))
    return f"{', '.join(others)} or {last}" if others else last


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"
