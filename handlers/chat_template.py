"""A model's chat template: rendered in a sandbox, within bounds, and never by a client's own template."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from handlers.template_abilities import probe
from openai_compat.errors import InvalidRequest, ModelUnavailable

RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"})
SLACK = 1 << 20
GROWTH = 4
SECONDS = 5.0


class Refusal(TemplateError):
    """The template itself said no, by ``raise_exception``."""


class ChatTemplate:
    """One compiled template.

    Args:
        source: Jinja2, as in a tokenizer's files.
        tokens: the special tokens that templates name (``bos_token`` …).

    Attributes:
        abilities: what it does with tools.

    Raises:
        ModelUnavailable: it does not compile.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self._tokens = dict(tokens)
        try:
            self._template = _environment().from_string(source)
        except (TemplateError, RecursionError) as error:
            raise ModelUnavailable("The model's chat template is broken.") from error
        self.abilities = probe(self.render)

    def render(
        self, messages: list[dict[str, Any]], options: Mapping[str, Any], tools: list[dict[str, Any]] | None = None
    ) -> str:
        """The prompt for ``messages``, with the definitions of ``tools``.

        Raises:
            Refusal: the template refuses this order of roles, or this role.
            InvalidRequest: an option has a reserved name, or the result is larger than 4 times the input and 1 MiB.
            ModelUnavailable: the template fails in another way.
        """
        for name in options.keys() & (RESERVED | self._tokens.keys()):
            raise InvalidRequest(f"'{name}' cannot be set.", param=f"chat_template_kwargs.{name}")
        values = {**self._tokens, **options, "tools": tools or None, "documents": None}
        limit = GROWTH * len(json.dumps([messages, tools], ensure_ascii=False)) + SLACK
        try:
            return _bounded(self._template.generate(messages=messages, add_generation_prompt=True, **values), limit)
        except Refusal:
            raise
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ModelUnavailable("The model's chat template failed on these messages.", retry=False) from error


def _bounded(pieces: Iterator[str], limit: int) -> str:
    """Joined while they are made, so that neither memory nor time runs away (both are looked at between pieces)."""
    parts: list[str] = []
    size, end = 0, time.monotonic() + SECONDS
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > limit or time.monotonic() > end:
            raise InvalidRequest("The model's chat template makes too much of these messages.", param="messages")
    return "".join(parts)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


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
