"""What is written in pieces is read as it was meant: calls in every dialect, reasoning, text of tokens, events of a stream."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.decoding.detokenizer import ByteDetokenizer
from handlers.reasoning import STYLES, ReasoningParser, Thought
from handlers.tools.events import CallArguments, CallStart, Text, joined
from handlers.tools.parser import ToolParser
from openai_compat.gateway.upstreams.framing import Framing

NAMES = ("weather", "now", "math.add")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(st.tuples(st.sampled_from(NAMES), st.dictionaries(TEXTS, VALUES, max_size=3)), min_size=1, max_size=3)
KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda key: key not in ("if", "in", "is", "as", "or", "and", "not"))
PYTHON_CALLS = st.lists(st.tuples(st.sampled_from(NAMES), st.dictionaries(KEYS, VALUES, max_size=3)), min_size=1, max_size=3)
CUTS = st.lists(st.floats(0, 1), max_size=8)
Calls = list[tuple[str, dict[str, Any]]]


def cut(whole: Any, places: list[float]) -> list[Any]:
    """``whole`` in pieces, cut at these shares of it."""
    ends = sorted({0, len(whole), *(int(place * len(whole)) for place in places)})
    return [whole[begin:end] for begin, end in pairwise(ends)]


def parse(dialect: str, pieces: list[str]) -> tuple[str, Calls]:
    """The words, and each call with its arguments as they are."""
    parser = ToolParser(dialect, frozenset(NAMES))
    words, calls = "", []
    for event in joined([event for piece in pieces for event in parser.feed(piece)] + parser.finish()):
        match event:
            case Text(text):
                words += text
            case CallStart(name):
                calls.append([name, ""])
            case CallArguments(text):
                calls[-1][1] += text
    return words, [(name, json.loads(arguments)) for name, arguments in calls]


def written(dialect: str, calls: Calls, *, escaped: bool) -> str:
    """As a model of this dialect writes them."""
    texts = [(name, json.dumps(arguments, ensure_ascii=escaped)) for name, arguments in calls]
    match dialect:
        case "hermes":
            return "\n".join(f'<tool_call>\n{{"name": "{name}", "arguments": {text}}}\n</tool_call>' for name, text in texts)
        case "llama3_json":
            return "<|python_tag|>" + "; ".join(f'{{"name": "{name}", "parameters": {text}}}' for name, text in texts)
        case "mistral":
            return "".join(f"[TOOL_CALLS]{name}[ARGS]{text}" for name, text in texts)
        case "deepseek":
            inner = "".join(f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{text}<｜tool▁call▁end｜>" for name, text in texts)
            return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"
        case "json":
            return "[" + ", ".join(f'{{"name": "{name}", "arguments": {text}}}' for name, text in texts) + "]"
    raise ValueError(dialect)


@settings(max_examples=150)
@given(st.sampled_from(["hermes", "llama3_json", "mistral", "deepseek", "json"]), CALLS, st.booleans(), CUTS)
def test_calls_are_read_as_they_were_written_in_any_pieces(dialect, calls, escaped, places) -> None:
    text = written(dialect, calls, escaped=escaped)
    assert parse(dialect, cut(text, places)) == ("", calls)


@settings(max_examples=80)
@given(PYTHON_CALLS, CUTS)
def test_calls_in_python_are_read_as_they_were_written_in_any_pieces(calls, places) -> None:
    each = [f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})" for name, arguments in calls]
    assert parse("pythonic", cut(f"[{', '.join(each)}]", places)) == ("", calls)


@settings(max_examples=100)
@given(st.sampled_from(sorted(STYLES)), TEXTS, TEXTS, CUTS)
def test_thoughts_and_words_are_told_apart_in_any_pieces(style, thoughts, words, places) -> None:
    marks = STYLES[style]
    opening, closing = marks.open, marks.close

    def read(pieces: list[str]) -> tuple[str, str]:
        parser = ReasoningParser(marks, opened=False)
        said = [piece for text in pieces for piece in parser.feed(text)] + parser.finish()
        thought = "".join(piece.text for piece in said if isinstance(piece, Thought))
        return thought, "".join(piece.text for piece in said if isinstance(piece, Text))

    text = f"{opening}{thoughts}{closing}{words}"
    found = read(cut(text, places))
    assert found == read([text])
    if closing not in thoughts + words and opening not in thoughts + words:
        assert (found[0].strip(), found[1].strip()) == (thoughts.strip(), words.strip())


class Tokens:
    """A vocabulary whose tokens are the pieces of one text's bytes."""

    hidden: frozenset[int] = frozenset()

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def token_bytes(self, number: int) -> bytes:
        return self._pieces[number]


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60), st.lists(st.floats(0, 1), max_size=20))
def test_text_comes_out_of_tokens_that_cut_its_characters(text, places) -> None:
    pieces = cut(text.encode(), places)
    reader = ByteDetokenizer(Tokens(pieces))  # type: ignore[arg-type]
    assert "".join(reader.feed(number) for number in range(len(pieces))) == text


@given(st.binary(max_size=60), st.lists(st.floats(0, 1), max_size=20))
def test_bytes_that_are_no_text_come_out_alike_however_they_are_cut(data, places) -> None:
    pieces = cut(data, places)
    reader = ByteDetokenizer(Tokens([*pieces, b"."]))  # type: ignore[arg-type]
    said = "".join(reader.feed(number) for number in range(len(pieces) + 1))
    assert said == (data + b".").decode("utf-8", "replace")


EVENTS = st.lists(st.tuples(st.sampled_from(["\n", "\r\n", "\r"]), VALUES), min_size=1, max_size=5)


@given(EVENTS, CUTS)
def test_events_come_out_whole_whatever_ends_their_lines_and_wherever_they_are_cut(events, places) -> None:
    stream = b"".join(f"data: {json.dumps(value)}{end}{end}".encode() for end, value in events)
    framing = Framing()
    out = b"".join([framing.feed(piece) for piece in cut(stream, places)]) + framing.rest()
    assert [json.loads(event.removeprefix(b"data: ")) for event in out.split(b"\n\n") if event] == [
        value for _, value in events
    ]
