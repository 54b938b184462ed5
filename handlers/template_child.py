"""The process in which a model's chat template is compiled and rendered: Jinja's sandbox, and limits that end the process.

A template can ask for work and memory without end in one call (``'a' * 10**10``, ``9**9**9``, lists that hold one another), and
some of it already when it is compiled. So a limit of memory stands on the whole process, and whoever asks stops it in time.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from handlers.helper_process import READY, read, write
from handlers.template_terms import BROKEN, FAILED, REFUSED, RENDERED, TOO_MUCH, Arguments, seconds_for

MEMORY = 1 << 30
GROWTH = 4
SLACK = 1 << 20


class Refusal(TemplateError):
    """The template itself said no, by ``raise_exception``."""


class _TooMuch(Exception):
    """The output has outgrown its input."""


def main() -> None:
    """The template comes first; each question is messages, tools and further values as JSON."""
    question, answer = sys.stdin.buffer, sys.stdout.buffer
    source = _text(read(question) or b"")
    environment = _environment()
    _warm(environment)
    _confine()
    write(answer, READY)
    template = None
    while (asked := read(question)) is not None:
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds_for(asked))  # should whoever asked be gone
        try:
            template = template or environment.from_string(source)
        except Exception:  # whatever a stranger's source does to the compiler
            write(answer, BROKEN)
            return
        write(answer, _answer(template, _text(asked)))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(template: Template, asked: str) -> bytes:
    try:
        messages, tools, values = json.loads(asked)
        for message in messages:
            _restore(message)
        pieces = template.generate(messages=messages, tools=tools, documents=None, add_generation_prompt=True, **values)
        return RENDERED + _bounded(pieces, GROWTH * len(asked) + SLACK).encode(errors="surrogatepass")
    except Refusal:
        return REFUSED
    except (_TooMuch, MemoryError):
        return TOO_MUCH
    except Exception:  # the process is the boundary: what went wrong in there is told to nobody
        return FAILED


def _bounded(pieces: Iterator[str], limit: int) -> str:
    parts: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise _TooMuch
        parts.append(piece)
    return "".join(parts)


def _restore(message: dict[str, Any]) -> None:
    for call in message.get("tool_calls") or ():
        if isinstance(call["function"].get("arguments"), dict):
            call["function"]["arguments"] = Arguments(call["function"]["arguments"])


def _text(message: bytes) -> str:
    return message.decode(errors="surrogatepass")


def _warm(environment: ImmutableSandboxedEnvironment) -> None:
    """Let the time zone, and the modules that are imported on first use, be read while files can be opened."""
    datetime.now().astimezone()
    with contextlib.suppress(ZeroDivisionError):
        environment.from_string("{{ '<a>one</a>\\n' | striptags | wordwrap(2) | pprint }}{{ 1 / 0 }}").render()


def _confine() -> None:
    """No more memory, no file and no connection, no core file. Not every system has each of these limits."""
    for name, most in (("RLIMIT_AS", MEMORY), ("RLIMIT_NOFILE", 0), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    environment.globals["dict"] = _Dictionaries()
    environment.globals["namespace"] = _Namespace
    return environment


class _Dictionaries:
    """What templates call ``dict`` for. The class itself would change what is immutable: ``dict.update(messages[0], …)``."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """Without names by which Python and Jinja find what they call, past the sandbox: ``__html__``, ``__call__``."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as Jinja's own: a value may be called "self"
        self, *further = args
        values = dict(*further, **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError("no name of a namespace begins with a line")


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's words for training; here its content is simply rendered."""

    tags = {"generation"}  # noqa: RUF012 -- jinja2's own interface

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Unlike jinja2's own filter it does not escape for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise Refusal(message)


def _now(layout: str) -> str:
    return datetime.now().astimezone().strftime(layout)


if __name__ == "__main__":
    main()
