"""What a chat template does with tools, found out by rendering: a template that leaves something out does not say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from handlers.template_terms import Arguments
from openai_compat.errors import APIError

Dialogue: TypeAlias = list[dict[str, Any]]
Render: TypeAlias = Callable[[Dialogue, Mapping[str, Any], Dialogue | None], str]
_NAME, _VALUE, _RESULT, _ID = "look_up_zq", "value_zq", "result_zq", "zqzqzqzq1"
_WORDS = "Just a moment."
_USER = {"role": "user", "content": "Hello."}


class Refusal(Exception):
    """The template itself said no, by ``raise_exception``."""


class Abilities(Struct, frozen=True, kw_only=True):
    """What appears in the prompt.

    Attributes:
        tools: definitions of tools.
        calls: earlier calls and their results.
        calls_beside_words: both where a message has words and calls.
        wordless: the content with which calls without words appear; DeepSeek's templates want null, others a text.
    """

    tools: bool = False
    calls: bool = False
    calls_beside_words: bool = False
    wordless: str | None = ""


def probe(render: Render) -> Abilities:
    tool = {"name": _NAME, "description": "Look up.", "parameters": {"type": "object", "properties": {}}}
    wordless = next((content for content in ("", None) if _shows_calls(render, content)), _WORDS)
    return Abilities(
        tools=_NAME in _rendered(render, [_USER], [{"type": "function", "function": tool}]),
        calls=wordless != _WORDS,
        calls_beside_words=_shows_calls(render, _WORDS),
        wordless=None if wordless is None else "",
    )


def _shows_calls(render: Render, content: str | None) -> bool:
    function = {"name": _NAME, "arguments": Arguments(key=_VALUE)}
    call = {"role": "assistant", "content": content, "tool_calls": [{"id": _ID, "type": "function", "function": function}]}
    result = {"role": "tool", "content": _RESULT, "tool_call_id": _ID, "name": _NAME}
    text = _rendered(render, [_USER, call, result], None)
    return all(sign in text for sign in (_NAME, _VALUE, _RESULT, content or ""))


def _rendered(render: Render, dialogue: Dialogue, tools: Dialogue | None) -> str:
    try:
        return render(dialogue, {}, tools)
    except (Refusal, APIError):
        return ""
