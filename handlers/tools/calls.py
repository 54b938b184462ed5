"""A call written as one JSON object: ``{"name": …, "arguments": {…}}``."""

from __future__ import annotations

import json

from handlers.tools.reader import Malformed, Reader, Step
from handlers.tools.values import JSON

_ARGUMENTS = ("arguments", "parameters")


def call_object(r: Reader, *, bare: bool = False) -> Step[None]:
    """Read a call. Its arguments may be called parameters, may be missing, and may be JSON text in a string; other keys are
    left out. They are passed on as they come where the name stands before them.

    Args:
        bare: nothing else tells that this is a call, so that it must have arguments.

    Raises:
        Malformed: it is no call, or one of a tool that was not offered.
    """
    yield from r.expect("{")
    name, held, separator = "", None, ""
    while separator != "}":
        key = yield from _text(r)
        yield from r.expect(":")
        yield from r.skip_space()
        if key == "name":
            name = yield from _text(r)
        elif key not in _ARGUMENTS:
            yield from JSON.value(r, _forget)
        elif name and (yield from r.peek()) == "{":
            r.start(name)
            yield from JSON.value(r, r.argue)
            return (yield from _leave(r))
        else:
            held = yield from _held(r)
        separator = yield from _separator(r)
    whole_call(r, name, None if bare and held is None else _object(held))


def call_objects(r: Reader, *, bare: bool = False) -> Step[None]:
    """A list of calls, or calls one after another, with white space, commas or semicolons between them."""
    yield from r.skip_space()
    listed = yield from r.accept("[")
    yield from call_object(r, bare=bare)
    while (yield from _another(r)):
        yield from call_object(r, bare=bare)
    if listed:
        yield from r.expect("]")


def arguments(r: Reader, name: str) -> Step[None]:
    """A call whose name has been read: its arguments are an object, passed on as it comes."""
    yield from r.skip_space()
    if (yield from r.peek()) != "{":
        raise Malformed
    r.start(name)
    yield from JSON.value(r, r.argue)
    r.close()


def whole_call(r: Reader, name: str, text: str | None) -> None:
    """Raises ``Malformed`` without arguments, or where the tool was not offered."""
    if text is None:
        raise Malformed
    r.start(name)
    r.argue(text)
    r.close()


def _leave(r: Reader) -> Step[None]:
    """Behind the arguments only the end of the object is left, or keys that mean nothing; models forget the brace at times."""
    r.close()
    yield from r.skip_space()
    while (yield from r.accept(",")):
        yield from _text(r)
        yield from r.expect(":")
        yield from r.skip_space()
        yield from JSON.value(r, _forget)
        yield from r.skip_space()
    yield from r.accept("}")


def _another(r: Reader) -> Step[bool]:
    yield from r.skip_space()
    while (yield from r.accept(",")) or (yield from r.accept(";")):
        yield from r.skip_space()
    return (yield from r.peek()) == "{"


def _separator(r: Reader) -> Step[str]:
    yield from r.skip_space()
    separator = yield from r.peek()
    if separator not in (",", "}"):
        raise Malformed
    return r.take()


def _text(r: Reader) -> Step[str]:
    yield from r.skip_space()
    parts: list[str] = []
    yield from JSON.string(r, parts.append)
    return str(json.loads("".join(parts)))


def _held(r: Reader) -> Step[str]:
    parts: list[str] = []
    yield from JSON.value(r, parts.append)
    return "".join(parts)


def _object(held: str | None) -> str:
    """The JSON text of an object out of what stood for the arguments."""
    try:
        value = json.loads(held or "{}")
        text = value if isinstance(value, str) else held or "{}"
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed from None
    if not isinstance(value, dict):
        raise Malformed
    return text.strip()


def _forget(piece: str) -> None:
    """Leave a piece out."""
