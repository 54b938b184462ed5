"""Each dialect, cut anywhere: the pieces of a text say what the whole says."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.tools.events import CallArguments, CallEnd, CallStart, Text
from handlers.tools.parser import DIALECTS, ToolParser, guess

NAMES = frozenset({"weather", "now"})
NOISE = [
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<|python_start|>", "```json\n", "```"),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
    *(
        '{"name": "weather"',
        ', "arguments": ',
        ', "parameters": ',
        '{"city": "Pa',
        'ris"}',
        "weather",
        "now",
        "(",
        "city=",
        "'x'",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        ")",
        '"',
        "'",
        "\\",
        "\\u00",
        "e9",
        ",",
        ":",
        ";",
        " ",
        "\n",
        "a",
        "1",
        "-",
        "true",
        "é🎈",
        "\x00",
        "<",
        "`",
    ),
]


def test_a_recorded_answer_has_its_words_and_calls(recorded, parse, words_of, calls_of) -> None:
    dialect, text, words, calls = recorded
    events = parse(dialect, [text])
    assert words_of(events) == words
    assert [(name, json.loads(arguments)) for name, arguments in calls_of(events)] == calls


def test_it_says_the_same_cut_in_two_anywhere(recorded, parse) -> None:
    dialect, text, _, _ = recorded
    whole = parse(dialect, [text])
    assert [i for i in range(len(text) + 1) if parse(dialect, [text[:i], text[i:]]) != whole] == []


def test_it_says_the_same_letter_by_letter_and_in_random_pieces(recorded, parse) -> None:
    dialect, text, _, _ = recorded
    whole = parse(dialect, [text])
    assert parse(dialect, list(text)) == whole
    for seed in range(200):
        draw = random.Random(seed)
        cuts = sorted(draw.choices(range(len(text) + 1), k=draw.randint(0, 12)))
        assert parse(dialect, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]) == whole


def test_a_text_without_calls_comes_out_unchanged_cut_anywhere(plain, parse) -> None:
    dialect, text = plain
    for i in range(len(text) + 1):
        assert parse(dialect, [text[:i], text[i:]]) == ([Text(text)] if text else [])
    assert parse(dialect, list(text)) == ([Text(text)] if text else [])


@given(
    dialect=st.sampled_from(sorted(DIALECTS)), text=st.lists(st.sampled_from(NOISE), max_size=30), seed=st.integers(0, 2**32)
)
def test_any_rubbish_says_the_same_in_pieces_and_loses_no_call(dialect: str, text: list[str], seed: int) -> None:
    joined_text, draw = "".join(text), random.Random(seed)
    cuts = sorted(draw.choices(range(len(joined_text) + 1), k=5))
    pieces = [joined_text[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined_text)], strict=True)]
    whole, parts = ([e for p in given_ for e in _fed(parser, p)] for given_, parser in _both(dialect, [joined_text], pieces))
    assert _shape(whole) == _shape(parts)
    if not any(isinstance(event, CallStart) for event in whole):
        assert "".join(event.text for event in whole if isinstance(event, Text)) == joined_text


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=12,
    ),
    ascii=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_any_arguments_arrive_as_they_were_in_json_and_python(value, ascii: bool, indent: int | None, parse, calls_of) -> None:
    arguments = {"v": value, "w": "x"}
    text = json.dumps(arguments, ensure_ascii=ascii, indent=indent)
    [(_, seen)] = calls_of(parse("hermes", list(f'<tool_call>{{"name": "now", "arguments": {text}}}</tool_call>')))
    assert seen == text
    [(_, seen)] = calls_of(parse("pythonic", list(f"[now(v={value!r}, w='x')]")))
    assert json.loads(seen) == arguments


def test_arguments_are_passed_on_as_they_come() -> None:
    parser = ToolParser("hermes", NAMES)
    assert parser.feed('Hm. <tool_call>{"name": "weather", "arg') == [Text("Hm. ")]
    assert parser.feed('uments": {"city": "Par') == [CallStart("weather"), CallArguments('{"city": "Par')]
    assert parser.feed("is") == [CallArguments("is")]
    assert parser.feed('"}') == [CallArguments('"}'), CallEnd()]
    assert parser.feed("}</tool_call>") == []
    assert parser.finish() == []


def test_a_beginning_that_is_none_is_given_out_at_once() -> None:
    parser = ToolParser("hermes", NAMES)
    assert parser.feed("a <tool") == [Text("a ")]
    assert parser.feed("box>") == [Text("<toolbox>")]


def test_a_call_that_goes_wrong_within_its_arguments_ends_there_and_the_rest_is_text(parse) -> None:
    events = parse("hermes", ['<tool_call>{"name": "now", "arguments": {"a": 1, oops}}</tool_call>'])
    assert events == [CallStart("now"), CallArguments('{"a": 1, '), CallEnd(), Text("oops}}</tool_call>")]


def test_a_call_that_is_cut_off_keeps_all_that_came(parse) -> None:
    events = parse("json", ['{"name": "now", "arguments": {"a": tru'])
    assert events == [CallStart("now"), CallArguments('{"a": tru'), CallEnd()]


def test_line_breaks_and_wrong_escapes_in_strings_are_mended(parse, calls_of) -> None:
    [(_, arguments)] = calls_of(parse("json", ['{"name": "now", "arguments": {"a": "x\ny\\d\\\'"}}']))
    assert json.loads(arguments) == {"a": "x\ny\\d'"}


def test_a_long_argument_takes_time_in_proportion() -> None:
    parser = ToolParser("hermes", NAMES)
    parser.feed('<tool_call>{"name": "now", "arguments": {"a": "')
    seen = sum(len(event.text) for _ in range(20_000) for event in parser.feed("word ") if isinstance(event, CallArguments))
    assert seen == 100_000


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        ("{% if tools %}<tool_call>{% endif %}", "hermes"),
        ("{{ '[TOOL_CALLS] [' }}", "mistral"),
        ("<｜tool▁calls▁begin｜>", "deepseek"),
        ('<|start_header_id|>{ "name": function name, "parameters": dictionary }', "llama3_json"),
        ("<|start_header_id|> <|python_tag|>", "llama3_json"),
        ("<|header_start|> [func_name1(params_name1=params_value1)]", "pythonic"),
        ("{{ messages }}", "hermes"),
    ],
)
def test_the_dialect_is_guessed_from_the_template(template: str, dialect: str) -> None:
    assert guess(template) == dialect


def _both(dialect: str, *inputs: list[str]) -> list[tuple[list[str | None], ToolParser]]:
    return [([*pieces, None], ToolParser(dialect, NAMES)) for pieces in inputs]


def _fed(parser: ToolParser, piece: str | None) -> list:
    return parser.finish() if piece is None else parser.feed(piece)


def _shape(events: list) -> list[tuple[str, str]]:
    """Neighbours of a kind joined; an independent way of saying what ``joined`` says."""
    shape: list[tuple[str, str]] = []
    for event in events:
        kind, text = type(event).__name__, getattr(event, "text", getattr(event, "name", ""))
        if shape and shape[-1][0] == kind and kind in ("Text", "CallArguments"):
            shape[-1] = (kind, shape[-1][1] + text)
        else:
            shape.append((kind, text))
    return shape
