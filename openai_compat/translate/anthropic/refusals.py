"""A chat's refusal → another chat that may be answered, or the refusal in the words of a message's client."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from openai_compat.errors import APIError, InvalidRequest
from openai_compat.translate.anthropic.request import Turn

_HINTS = ("chat_template_kwargs", "reasoning_effort")
"""What a chat says about thinking. Some servers refuse what they do not know; their models think as they like."""
_THOUGHTS = "reasoning_content"
_CONTEXT = re.compile(
    r"maximum context length is (?P<most>\d{1,9}) tokens.{1,200}?\((?P<prompt>\d{1,9}) in the (?:prompt|messages), "
    r"(?P<answer>\d{1,9}) in the completion\)",
    re.DOTALL,
)
_LONGEST = 4096  # characters of a message in which anything is looked for
_NAMES = {
    "max_completion_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "chat_template_kwargs": "thinking",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}


def again(turn: Turn, error: APIError) -> Turn:
    """What may be answered where ``turn`` was not: with as many tokens as there is room for, and without what the model's
    server does not know. Raises the error, in other words, where nothing is left to change.
    """
    if isinstance(error, InvalidRequest):
        room = _room(turn, error)
        if room:
            return replace(turn, chat=turn.chat | {"max_completion_tokens": room}, is_cut=True)
        said = f"{error.param} {error.message[:_LONGEST]}"
        for hint in _HINTS:
            if hint in turn.chat and hint in said:
                return replace(turn, chat={name: value for name, value in turn.chat.items() if name != hint})
        if _THOUGHTS in said and any(_THOUGHTS in message for message in turn.chat["messages"]):
            return replace(turn, chat=turn.chat | {"messages": [_thoughtless(each) for each in turn.chat["messages"]]})
    raise known(turn, error)


def known(turn: Turn, error: APIError) -> APIError:
    """The error with the client's names of fields."""
    if found := _context(error):
        most, prompt = int(found["most"]), int(found["prompt"])
        error.message = f"prompt is too long: {prompt} tokens > {most} maximum"
        error.param = "messages"
    elif error.param:
        name = _named(error.param, turn.origins)
        error.message = error.message.replace(f"'{error.param}'", f"'{name}'")
        error.param = name
    return error


def _room(turn: Turn, error: APIError) -> int:
    """Tokens that an answer may have, where it is the wish for more that was refused."""
    found = None if turn.is_cut else _context(error)
    return 0 if found is None else max(0, int(found["most"]) - int(found["prompt"]))


def _context(error: APIError) -> re.Match[str] | None:
    return _CONTEXT.search(error.message[:_LONGEST])


def _thoughtless(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != _THOUGHTS}


def _named(param: str, origins: list[tuple[str, str]]) -> str:
    """The longest place that begins it, and what stands behind."""
    head = param.partition(".")[0]
    if head in _NAMES:
        return _NAMES[head]
    begun = [(chat, place) for chat, place in origins if param == chat or param.startswith((f"{chat}.", f"{chat}["))]
    if not begun:
        return param
    chat, place = max(begun, key=lambda pair: len(pair[0]))
    behind = param[len(chat) :]
    return place if place.endswith(".source") or not behind.startswith((".name", ".description")) else place + behind
