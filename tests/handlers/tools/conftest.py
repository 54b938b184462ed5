"""Recorded answers in each dialect, and what stands in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from handlers.tools.events import CallArguments, CallEnd, CallStart, Event, Text, joined
from handlers.tools.parser import ToolParser

NAMES = frozenset({"weather", "send_mail", "now", "math.add", "write-file"})
MAIL = {
    "to": ["é@x.org", "b@x.org"],
    "body": 'A "quoted" {brace} and } another ] [TOOL_CALLS] </tool_call>\nnext\t\\ line 🎈',
    "deep": {"list": [1, -2.5e-3, True, None, {"k": []}]},
}
CITY = {"city": "Paris"}
MAIL_JSON, MAIL_ASCII = json.dumps(MAIL, ensure_ascii=False), json.dumps(MAIL)
PYTHON_MAIL = (
    """send_mail(to=['é@x.org', "b@x.org"], body='A "quoted" {brace} and } another ] [TOOL_CALLS] """
    r"""</tool_call>\nnext\t\\ line \U0001f388', deep={'list': [1, -2.5e-3, True, None, {'k': []}]})"""
)

# name → dialect, text, the words beside the calls, the calls
RECORDED: dict[str, tuple[str, str, str, list[tuple[str, Any]]]] = {
    "hermes": (
        "hermes",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        "",
        [("weather", CITY)],
    ),
    "hermes, words and two calls": (
        "hermes",
        "Let me look: a < b, <tool, {x}.\n"
        f'<tool_call>{{"name":"send_mail","arguments":{MAIL_JSON}}}</tool_call>\n'
        '<tool_call>\n{"arguments": {}, "name": "now"}\n</tool_call>\n',
        "Let me look: a < b, <tool, {x}.\n",
        [("send_mail", MAIL), ("now", {})],
    ),
    "hermes, no arguments, brace forgotten, arguments as text": (
        "hermes",
        '<tool_call>{"name": "now"}</tool_call><tool_call>{"name": "weather", "arguments": {"city": "Paris"}</tool_call>'
        '<tool_call>{"id": "1", "name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
        "",
        [("now", {}), ("weather", CITY), ("weather", CITY)],
    ),
    "hermes, several in one mark": (
        "hermes",
        '<tool_call>[{"name": "now", "arguments": {}}, {"name": "weather", "arguments": {"city": "Paris"}}]</tool_call>done',
        "done",
        [("now", {}), ("weather", CITY)],
    ),
    "llama, bare": (
        "llama3_json",
        '{"name": "weather", "parameters": {"city": "Paris"}}; {"name": "now", "parameters": {}}',
        "",
        [("weather", CITY), ("now", {})],
    ),
    "llama, tag": (
        "llama3_json",
        f'<|python_tag|>{{"type": "function", "name": "send_mail", "parameters": {MAIL_ASCII}}}',
        "",
        [("send_mail", MAIL)],
    ),
    "pythonic": (
        "pythonic",
        f"[weather(city='Paris'), now(), {PYTHON_MAIL}]",
        "",
        [("weather", CITY), ("now", {}), ("send_mail", MAIL)],
    ),
    "pythonic, marks and liberties": (
        "pythonic",
        r"""Sure. <|python_start|>[ math.add( a = 1_000, b=.5, c="\x41\u00e9\q'", d=[1, {}] , )]<|python_end|>""",
        "Sure. ",
        [("math.add", {"a": 1000, "b": 0.5, "c": "Aé\\q'", "d": [1, {}]})],
    ),
    "mistral, list": (
        "mistral",
        f'[TOOL_CALLS] [{{"name": "send_mail", "arguments": {MAIL_JSON}, "id": "abc"}}, {{"name": "now", "arguments": {{}}}}]',
        "",
        [("send_mail", MAIL), ("now", {})],
    ),
    "mistral, marks": (
        "mistral",
        f'I [TOOL] do.[TOOL_CALLS]weather[CALL_ID]a1b2[ARGS]{{"city": "Paris"}}[TOOL_CALLS]send_mail[ARGS]{MAIL_JSON}',
        "I [TOOL] do.",
        [("weather", CITY), ("send_mail", MAIL)],
    ),
    "deepseek 3.1": (
        "deepseek",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>'
        f"<｜tool▁call▁begin｜>send_mail<｜tool▁sep｜>{MAIL_JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "",
        [("weather", CITY), ("send_mail", MAIL)],
    ),
    "deepseek 3": (
        "deepseek",
        "One <｜tool▁ moment.\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
        '```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n'
        "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "One <｜tool▁ moment.\n\n",
        [("weather", CITY), ("now", {})],
    ),
    "bare": ("json", f' \n{{"name": "send_mail", "arguments": {MAIL_JSON}}}', "", [("send_mail", MAIL)]),
    "bare list": (
        "json",
        '[{"name": "now", "arguments": {}},\n {"name": "weather", "arguments": {"city": "Paris"}}]\n',
        "",
        [("now", {}), ("weather", CITY)],
    ),
    "fenced": (
        "json",
        'Here:\n```json\n{"name": "weather", "arguments": {"city": "Paris"}}\n```\nand\n```json\n{"a": 1}\n```\n',
        'Here:\n\nand\n```json\n{"a": 1}\n```\n',
        [("weather", CITY)],
    ),
}
# name → dialect and a text without any call, which comes out as it is
PLAIN = {
    "nothing": ("hermes", ""),
    "white space": ("hermes", " \n "),
    "words": ("hermes", "  Hello <b>world</b>, a<tool_cal and <tool_call"),
    "tool that was not offered": ("hermes", '<tool_call>{"name": "rm", "arguments": {"path": "/"}}</tool_call>'),
    "cut in the name": ("hermes", 'a <tool_call>\n{"name": "weath'),
    "no call": ("hermes", "<tool_call>see below</tool_call> <tool_call>"),
    "an answer in JSON": ("hermes", '{"name": "weather", "age": 3}'),
    "a list": ("json", '[1, 2, {"name": "weather"}]'),
    "code": ("json", "```json\n{\"name\": 'x'}\n```"),
    "python list": ("pythonic", "[1, 2] and [weather] and [rm(path='/')]"),
    "positional": ("pythonic", "[weather('Paris')]"),
    "tag": ("llama3_json", "<|python_tag|>print(1)"),
    "mistral": ("mistral", "[TOOL_CALLS] nothing here [TOOL_CALLS]rm[ARGS]{}"),
    "deepseek": ("deepseek", "<｜tool▁calls▁begin｜>weather<｜tool▁calls▁end｜>"),
    "too deep": ("json", '{"name": "weather", "x": ' + "[" * 70 + "]" * 70 + "}"),
    "number": ("json", '{"name": "weather", "x": 01}'),
}


def _parse(dialect: str, pieces: list[str]) -> list[Event]:
    parser = ToolParser(dialect, NAMES)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return joined(events + parser.finish())


def _words_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def _calls_of(events: list[Event]) -> list[tuple[str, str]]:
    """Name and arguments of each call; checks that calls follow one another."""
    calls: list[list[str]] = []
    calling = False
    for event in events:
        match event:
            case CallStart(name):
                assert not calling
                calls.append([name, ""])
                calling = True
            case CallArguments(text):
                assert calling
                calls[-1][1] += text
            case CallEnd():
                assert calling
                calling = False
    assert not calling
    return [(name, text) for name, text in calls]


@pytest.fixture(params=RECORDED)
def recorded(request: pytest.FixtureRequest) -> tuple[str, str, str, list[tuple[str, Any]]]:
    return RECORDED[request.param]


@pytest.fixture(params=PLAIN)
def plain(request: pytest.FixtureRequest) -> tuple[str, str]:
    return PLAIN[request.param]


@pytest.fixture(scope="session")
def parse() -> Callable[[str, list[str]], list[Event]]:
    return _parse


@pytest.fixture(scope="session")
def words_of() -> Callable[[list[Event]], str]:
    return _words_of


@pytest.fixture(scope="session")
def calls_of() -> Callable[[list[Event]], list[tuple[str, str]]]:
    return _calls_of
