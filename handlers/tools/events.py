"""What a parser of tool calls sees in a model's text, in the order in which it came."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Text(Struct, frozen=True):
    """Words for the user."""

    text: str


class CallStart(Struct, frozen=True):
    """A call of an offered tool begins; it ends before the next one begins."""

    name: str


class CallArguments(Struct, frozen=True):
    """A piece of JSON text; the pieces of a call, joined, are one object unless the model broke off."""

    text: str


class CallEnd(Struct, frozen=True):
    """The call is over."""


Event: TypeAlias = Text | CallStart | CallArguments | CallEnd


def joined(events: list[Event]) -> list[Event]:
    """The same with neighbours of one kind put together."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Text) and isinstance(last, Text):
            out[-1] = Text(last.text + event.text)
        elif isinstance(event, CallArguments) and isinstance(last, CallArguments):
            out[-1] = CallArguments(last.text + event.text)
        else:
            out.append(event)
    return out
