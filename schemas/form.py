"""Fields of a form → Struct: texts become the schema's types, ``a[]`` and repeated names lists, ``a[b]`` an object.

    timestamp_granularities[]=word            timestamp_granularities=["word"]
    chunking_strategy[type]=server_vad        chunking_strategy={"type": "server_vad"}

Bounds and messages are those of a JSON body; a message names the field as the client spelled it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import inspect

from openai_compat.errors import InvalidRequest
from schemas.decode import decoded_json, invalid

T = TypeVar("T", bound=msgspec.Struct)

_NAME = re.compile(r"(?P<name>[^\[\]]+)(?:(?P<list>\[\])|\[(?P<key>[^\[\]]+)\])?")
_INDEX = re.compile(r"\[\d+\]")
_LISTS = (inspect.ListType, inspect.VarTupleType)
_OBJECTS = (inspect.StructType, inspect.DictType)


class HasFields(Protocol):
    """What a form's parser gives: the texts of each field under the name that the client wrote."""

    @property
    def fields(self) -> Mapping[str, Sequence[str]]: ...


def decode_form(form: HasFields, type: type[T]) -> T:
    """Read the fields that ``type`` knows; others are ignored, as in a JSON body. Raises ``InvalidRequest``."""
    kinds = {field.encode_name: tuple(_kinds(inspect.type_info(field.type))) for field in msgspec.structs.fields(type)}
    values: dict[str, Any] = {}
    spelling: dict[str, str] = {}
    for raw, texts in form.fields.items():
        match = _NAME.fullmatch(raw)
        if match is None or match["name"] not in kinds:
            continue
        name, key = match["name"], match["key"]
        spelling[f"{name}.{key}" if key else name] = raw
        _put(values, name, key, _value(raw, texts, () if key else kinds[name], several=match["list"] is not None), raw)
    try:
        return msgspec.convert({name: value for name, value in values.items() if value is not None}, type, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(str(error), lambda path: spelling.get(_INDEX.sub("", path), path)) from None


def _put(values: dict[str, Any], name: str, key: str | None, value: Any, raw: str) -> None:
    """Join what several names say of one field: two lists, or the keys of one object."""
    known = values.get(name)
    if key is not None:
        value = {key: value} if value is not None else {}
    if isinstance(known, dict) and isinstance(value, dict):
        value = {**known, **value}
    elif isinstance(known, list) and isinstance(value, list):
        value = known + value
    elif name in values:
        raise _twice(raw)
    values[name] = value


def _value(raw: str, texts: Sequence[str], kinds: tuple[type[inspect.Type], ...], *, several: bool) -> Any:
    """One text, a list, or what JSON in a text says. None for a blank one that can be no text: it counts as not given."""
    if several or any(kind in _LISTS for kind in kinds):
        inside = _structured(texts[0]) if len(texts) == 1 and texts[0].startswith("[") else None
        return inside if isinstance(inside, list) else [text for text in texts if text]
    if len(set(texts)) > 1:
        raise _twice(raw)
    text = texts[0]
    if kinds and not text and inspect.StrType not in kinds:
        return None
    if text.startswith("{") and any(kind in _OBJECTS for kind in kinds):
        return _structured(text)
    return text


def _structured(text: str) -> Any:
    """The list or object that a text holds as JSON; the text itself where it is none."""
    try:
        return decoded_json(text)
    except InvalidRequest:
        return text


def _twice(raw: str) -> InvalidRequest:
    return InvalidRequest(f"The field '{raw}' was given more than once.", param=raw, code="invalid_value")


def _kinds(kind: inspect.Type) -> Iterator[type[inspect.Type]]:
    """The types that a field may have, unions taken apart."""
    if isinstance(kind, inspect.Metadata):
        yield from _kinds(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _kinds(member)
    else:
        yield type(kind)
