"""Tool calls and reasoning in an answer, in every dialect: calls whole, words none lost, cut wherever it may be."""

from __future__ import annotations

from handlers.reasoning import STYLES, ReasoningParser, Thought
from handlers.tools.events import CallArguments, CallEnd, CallStart, Event, Text, joined
from handlers.tools.parser import DIALECTS, ToolParser

NAMES = frozenset({"weather", "now", "math.add"})


def fuzz(data: bytes) -> None:
    """The first byte chooses the dialect, the second is how long the pieces are."""
    names = sorted(DIALECTS)
    dialect, size = names[(data[0] if data else 0) % len(names)], 1 + (data[1] if len(data) > 1 else 0)
    text = data[2:].decode("utf-8", "replace")
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    events = read(dialect, [text])
    assert read(dialect, pieces) == events
    check(events, text)
    for name in sorted(STYLES):
        assert think(name, pieces) == think(name, [text])


def read(dialect: str, pieces: list[str]) -> list[Event]:
    parser = ToolParser(dialect, NAMES)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return joined(events + parser.finish())


def check(events: list[Event], text: str) -> None:
    """Calls follow one another; without a call, every word is there."""
    arguments: list[str] | None = None
    for event in events:
        match event:
            case CallStart(name):
                assert arguments is None
                assert name in NAMES
                arguments = []
            case CallArguments(piece):
                assert arguments is not None
                arguments.append(piece)
            case CallEnd():
                assert arguments is not None
                arguments = None
            case Text(words):
                assert arguments is None or not words
    if not any(isinstance(event, CallStart) for event in events):
        assert "".join(event.text for event in events if isinstance(event, Text)) == text


def think(name: str, pieces: list[str]) -> tuple[str, str]:
    parser = ReasoningParser(STYLES[name], opened=False)
    said = [piece for text in pieces for piece in parser.feed(text)] + parser.finish()
    thoughts = "".join(piece.text for piece in said if isinstance(piece, Thought))
    return thoughts, "".join(piece.text for piece in said if isinstance(piece, Text))
