"""`/v1/decisions`: questions about an input → chats that are answered with one letter.

The input comes first and the question last, so that what was computed of the input serves all questions. The options have
letters in front of them, each one token whatever is behind it: so no option is likelier because its words are, and the model's
own probabilities of the letters are those of the options.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import Any

import msgspec
from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.translate.responses.items import read_items
from openai_compat.translate.responses.reading import check_shape, wrong_value
from openai_compat.translate.responses.turn import Turn, param_of, to_turn
from schemas.decisions import (
    ChoiceOption,
    ChoiceQuestion,
    CreateDecisionRequest,
    ImagePart,
    Instructions,
    JsonPart,
    Level,
    Predicate,
    Question,
    TextPart,
)
from schemas.responses import CreateResponseRequest

AT_ONCE = 20
"""Options that one chat may have: so many of the likeliest tokens a chat tells."""
MAX_CHATS = 1024
_LONGEST_JSON = 256 * 1024  # bytes
MAX_BYTES = 512 * 2**20
"""That all chats of one request may have of its input together: an upstream is sent it with each of them."""
_ORDERS = 2
_OUTPUTS = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}
_TRUE = "Is this statement about what you were given true?\n\n"


class Asked(Struct, frozen=True, kw_only=True):
    """One question to the model: parts of a message, and the options in words. ``grouped``: each option is several."""

    parts: tuple[dict[str, Any], ...]
    options: tuple[str, ...]
    grouped: bool = False

    def among(self, options: Iterable[str], *, grouped: bool = False) -> Asked:
        return Asked(parts=self.parts, options=tuple(options), grouped=grouped)


def to_input(request: CreateDecisionRequest) -> Turn:
    """The chat that holds the input alone. Raises ``InvalidRequest`` for all that needs no model."""
    chats = _check_questions(request)
    given: str | list[Any] = request.input
    if isinstance(given, list):
        given = [_as_text(item, f"input[{i}]") for i, item in enumerate(given)]
    items = read_items(given)
    _check_outputs(items)
    shaping = CreateResponseRequest(
        model=request.model, prompt_cache_key=request.prompt_cache_key, safety_identifier=request.safety_identifier
    )
    turn = to_turn(shaping, [], items)
    _check_size(turn, chats)
    return turn


def asked_of(question: Question) -> Asked:
    parts = _parts(question.instructions)
    if isinstance(question, Predicate):
        return Asked(parts=(*_text(_TRUE), *parts), options=("true", "false"))
    if isinstance(question, ChoiceQuestion):
        return Asked(parts=parts, options=tuple(map(_choice, question.choices)))
    return Asked(parts=parts, options=tuple(map(_level, question.levels)))


def groups_of(options: Sequence[str]) -> tuple[range, ...]:
    """More options than one chat may have are asked for in two steps: which group, and which of it."""
    most = -(-len(options) // AT_ONCE)
    size = -(-len(options) // most)
    return tuple(range(start, min(start + size, len(options))) for start in range(0, len(options), size))


def chat_of(turn: Turn, asked: Asked, *, reverse: bool) -> dict[str, Any]:
    """``reverse`` lists the options from the last to the first."""
    options = asked.options[::-1] if reverse else asked.options
    listed = [f"{letter}: {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    what = "of the group that has the answer in it" if asked.grouped else "of the answer"
    end = f"Answer with the letter {what}, from A to {ascii_uppercase[len(options) - 1]}, and nothing else."
    parts = [*asked.parts, *_text("\n\n" + "\n".join(listed) + "\n\n" + end)]
    plain = all(part["type"] == "text" for part in parts)
    content = "".join(part["text"] for part in parts) if plain else parts
    asking = {"max_completion_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": AT_ONCE}
    return {**turn.chat, "messages": [*turn.chat["messages"], {"role": "user", "content": content}], **asking}


def param_in(turn: Turn, number: int, param: str | None) -> str | None:
    """What a chat's refusal names, as this request has it: of the input, or of question ``number``."""
    own = f"messages[{len(turn.chat['messages'])}]"
    return f"questions[{number}].instructions" if (param or "").startswith(own) else param_of(turn, param)


# ---------------------------------------------------------------- checks


def _check_questions(request: CreateDecisionRequest) -> int:
    """How many chats they are at most."""
    chats = 0
    for i, question in enumerate(request.questions):
        for j, part in enumerate(question.instructions):
            if isinstance(part, JsonPart):
                _json(part.data, f"questions[{i}].instructions[{j}].data")
        if not isinstance(question, Predicate):
            _check_unique(question, f"questions[{i}]")
        groups = len(groups_of(asked_of(question).options))
        chats += _ORDERS * (1 if groups == 1 else 1 + groups)
    if chats > MAX_CHATS:
        message = f"These questions have so many options that the model would be asked {chats} times; {MAX_CHATS} are allowed."
        raise InvalidRequest(message, param="questions", code="invalid_value")
    return chats


def _check_size(turn: Turn, chats: int) -> None:
    size = len(msgspec.json.encode(turn.chat))
    if size * chats > MAX_BYTES:
        message = f"The input has {size} bytes and would be read {chats} times; {MAX_BYTES} bytes together are allowed."
        raise InvalidRequest(message, param="input", code="invalid_value")


def _check_unique(question: Any, where: str) -> None:
    field = "choices" if isinstance(question, ChoiceQuestion) else "levels"
    seen: set[tuple[type, str | bool]] = set()
    for i, option in enumerate(getattr(question, field)):
        value = option.value if isinstance(option, ChoiceOption) else option.label
        if (type(value), value) in seen:
            raise wrong_value("it stands there twice.", f"{where}.{field}[{i}].{'value' if field == 'choices' else 'label'}")
        seen.add((type(value), value))


def _check_outputs(items: Sequence[dict[str, Any]]) -> None:
    """Each is of a call before it."""
    calls: set[tuple[str, str]] = set()
    for i, item in enumerate(items):
        kind = item["type"]
        if kind in _OUTPUTS and (_OUTPUTS[kind], item["call_id"]) not in calls:
            raise wrong_value("there is no call before it with this id.", f"input[{i}].call_id")
        if kind in _OUTPUTS.values():
            calls.add((kind, item["call_id"]))


def _as_text(item: Any, where: str) -> Any:
    """The item with its parts of JSON as text."""
    content = item.get("content") if isinstance(item, dict) else None
    if not isinstance(content, list):
        return item
    parts = [
        {"type": "input_text", "text": _json(part.get("data"), f"{where}.content[{i}].data")} if _is_json(part) else part
        for i, part in enumerate(content)
    ]
    return {**item, "content": parts}


def _is_json(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "input_json"


def _json(data: Any, where: str) -> str:
    objects = data if isinstance(data, list) else [data]
    if not all(isinstance(one, dict) for one in objects):
        raise wrong_value("it is an object, or a list of objects.", where)
    check_shape(data, where)
    text = msgspec.json.encode(data)
    if len(text) > _LONGEST_JSON:
        raise wrong_value(f"it has more than {_LONGEST_JSON} bytes.", where)
    return text.decode()


# ---------------------------------------------------------------- words


def _parts(instructions: Instructions) -> tuple[dict[str, Any], ...]:
    if isinstance(instructions, str):
        return tuple(_text(instructions))
    return tuple(map(_part, instructions))


def _part(part: TextPart | ImagePart | JsonPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, JsonPart):
        return {"type": "text", "text": msgspec.json.encode(part.data).decode()}
    detail = "high" if part.detail == "original" else part.detail or "auto"
    return {"type": "image_url", "image_url": {"url": part.image_url, "detail": detail}}


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def _choice(option: ChoiceOption) -> str:
    """As JSON has it, since a text may have the letters of a boolean."""
    value = msgspec.json.encode(option.value).decode()
    return f"{value} ({option.description})" if option.description else value


def _level(level: Level) -> str:
    return f"{level.label} ({level.description})" if level.description else level.label
