"""A request for a response, and the items before it → the body of a chat.

What a chat has under the same name goes over as it is, for our own models and for other servers alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.responses.history import messages_of
from openai_compat.translate.responses.reading import a_name, an_object, check_shape, missing, wrong_value
from openai_compat.translate.responses.tools import Toolbox, choice_of, toolbox_of
from schemas.responses import CreateResponseRequest, TextOptions, TurnFields
from schemas.responses_answer import Item

MAX_MESSAGES = 2048
LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
_SAME = (
    "temperature",
    "top_p",
    "user",
    "safety_identifier",
    "service_tier",
    "prompt_cache_key",
    "mode",
    "mode_options",
    "chat_template_kwargs",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "stop_token_ids",
)


class Turn(Struct, frozen=True, kw_only=True):
    """``chat`` is a body of `/v1/chat/completions`. ``places`` are where its messages came from, None for earlier items."""

    chat: dict[str, Any]
    tools: Toolbox
    places: tuple[str | None, ...]


def to_turn(request: TurnFields, history: Sequence[Item], added: Sequence[Item]) -> Turn:
    """``history`` are earlier items, ``added`` the request's own. Raises ``InvalidRequest`` for all that needs no model."""
    if isinstance(request, CreateResponseRequest):
        _check(request)
    if request.previous_response_id is not None and request.conversation is not None:
        message = "'previous_response_id' and 'conversation' cannot be given together."
        raise InvalidRequest(message, param="conversation")
    if not history and not added:
        raise missing("input")
    items = [*history, *added]
    box = toolbox_of(request.tools, items, earlier=len(history))
    messages, places = _messages(request, items, len(history))
    chat = {"model": request.model, "messages": messages, **_fields(request), **_tools(request, box)}
    return _short_enough(Turn(chat=chat, tools=box, places=places), auto=request.truncation == "auto")


def _check(request: CreateResponseRequest) -> None:
    if request.prompt is not None:
        raise UnsupportedParameter("Prompts are not kept here; send their text.", param="prompt")
    if request.background and request.store is False:
        raise InvalidRequest("'background' needs 'store': what nobody waits for must be kept.", param="background")


def _messages(request: TurnFields, items: list[Item], earlier: int) -> tuple[list[dict[str, Any]], tuple[str | None, ...]]:
    placed = messages_of(items)
    messages = [one.message for one in placed]
    places = [None if one.number < earlier else f"input[{one.number - earlier}]" for one in placed]
    if request.instructions:
        messages.insert(0, {"role": "system", "content": request.instructions})
        places.insert(0, "instructions")
    if not messages:
        raise wrong_value("it holds nothing that the model could be shown.", "input")
    return messages, tuple(places)


# ---------------------------------------------------------------- fields


def _fields(request: TurnFields) -> dict[str, Any]:
    chat = {name: value for name in _SAME if (value := getattr(request, name, None)) is not None}
    if request.reasoning is not None and request.reasoning.effort is not None:
        chat["reasoning_effort"] = request.reasoning.effort
    if request.text is not None:
        chat |= _text(request.text)
    if isinstance(request, CreateResponseRequest):
        chat |= _bounds(request)
    return chat


def _bounds(request: CreateResponseRequest) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if request.max_output_tokens is not None:
        chat["max_completion_tokens"] = request.max_output_tokens
    if wants_logprobs(request):
        chat["logprobs"] = True
        chat["top_logprobs"] = request.top_logprobs or 0
    return chat


def wants_logprobs(request: CreateResponseRequest) -> bool:
    return bool(request.top_logprobs) or LOGPROBS in (request.include or ())


def _text(text: TextOptions) -> dict[str, Any]:
    chat: dict[str, Any] = {} if text.verbosity is None else {"verbosity": text.verbosity}
    if text.format is None:
        return chat
    check_shape(text.format, "text.format")
    kind = a_name(text.format.get("type"), "text.format.type")
    if kind == "json_schema":
        return {**chat, "response_format": {"type": kind, "json_schema": _schema(text.format)}}
    if kind not in ("text", "json_object"):
        raise wrong_value("it is none of text, json_object and json_schema.", "text.format.type")
    return {**chat, "response_format": {"type": kind}}


def _schema(form: dict[str, Any]) -> dict[str, Any]:
    """Its name may be missing: it means nothing to a grammar."""
    inner = form.get("json_schema")
    given = inner if isinstance(inner, dict) else form
    if given.get("schema") is None:
        raise missing("text.format.schema")
    schema: dict[str, Any] = {"name": "response", "schema": an_object(given["schema"], "text.format.schema")}
    if given.get("name") is not None:
        schema["name"] = a_name(given["name"], "text.format.name")
    for key in ("description", "strict"):
        if given.get(key) is not None:
            schema[key] = given[key]
    return schema


def _tools(request: TurnFields, box: Toolbox) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    choice = choice_of(request.tool_choice, box)
    if box.functions:
        chat["tools"] = list(box.functions)
        if request.parallel_tool_calls is not None:
            chat["parallel_tool_calls"] = request.parallel_tool_calls
    if choice is not None and (box.functions or choice != "none"):
        chat["tool_choice"] = choice
    return chat


# ---------------------------------------------------------------- what did not fit, and what a refusal names

_SHARE = 8
"""An eighth of what is left goes each time: a chat of any length fits, or has ended, after some twenty times."""


def shorter(turn: Turn) -> Turn | None:
    """The same without its oldest messages, calls always together with their outputs; None where the last turn is all there is.

    Instructions and the last message of the user stay, and what came after it as long as anything else can go.
    """
    messages = turn.chat["messages"]
    groups = _groups(messages)
    last = max((n for n, group in enumerate(groups) if messages[group[0]]["role"] == "user"), default=len(groups) - 1)
    free = [n for n in range(len(groups) - 1) if n != last]
    if not free:
        return None
    sizes = {n: sum(_size(messages[number]) for number in groups[n]) for n in free}
    goal, gone = sum(sizes.values()) // _SHARE, set[int]()
    for n in free:
        gone.update(groups[n])
        goal -= sizes[n]
        if goal < 0:
            break
    kept = [number for number in range(len(messages)) if number not in gone]
    chat = {**turn.chat, "messages": [messages[number] for number in kept]}
    return Turn(chat=chat, tools=turn.tools, places=tuple(turn.places[number] for number in kept))


def _groups(messages: list[dict[str, Any]]) -> list[list[int]]:
    """What can only go together, instructions left out."""
    groups: list[list[int]] = []
    for number, message in enumerate(messages):
        if message["role"] == "tool" and groups:
            groups[-1].append(number)
        elif message["role"] not in ("system", "developer"):
            groups.append([number])
    return groups


def _size(message: dict[str, Any]) -> int:
    """About: characters of its text; a picture counts as much as a page."""
    content = message.get("content") or ""
    parts = [content] if isinstance(content, str) else [part.get("text", " " * 4096) for part in content]
    calls = [call["function"]["arguments"] for call in message.get("tool_calls", ())]
    return 1 + sum(map(len, (*parts, *calls, message.get("reasoning_content", ""))))


def _short_enough(turn: Turn, *, auto: bool) -> Turn:
    """Where the client wants that, its oldest messages go. Raises ``InvalidRequest`` else."""
    found: Turn | None = turn
    while found is not None and len(found.chat["messages"]) > MAX_MESSAGES:
        found = shorter(found) if auto else None
    if found is None:
        many = len(turn.chat["messages"])
        raise wrong_value(f"a model is shown at most {MAX_MESSAGES} messages; these are {many}.", "input")
    return found


_MESSAGE = re.compile(r"^messages\[(\d+)\](.*)$")
_TOOL = re.compile(r"^tools\[(\d+)\](?:\.function)?(.*)$")
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
}


def param_of(turn: Turn, param: str | None) -> str | None:
    """What a refusal of the chat names, as the client wrote it."""
    if param is None:
        return None
    if found := _MESSAGE.match(param):
        return _placed(turn.places, int(found[1]), _SPELLED.sub(r"\1", found[2])) or "input"
    if found := _TOOL.match(param):
        return _placed(turn.tools.places, int(found[1]), _of_tool(turn.tools, int(found[1]), found[2])) or "tools"
    head, dot, rest = param.partition(".")
    return _NAMES.get(head, head) + dot + rest


_SPELLED = re.compile(r"(\.image_url|\.input_audio)\.(?:url|data)$")


def _of_tool(box: Toolbox, number: int, rest: str) -> str:
    """The parameters of a custom tool are made of its format."""
    name = box.functions[number]["function"]["name"] if number < len(box.functions) else ""
    return ".format" if box.what_is(name).kind == "custom" and rest.startswith(".parameters") else rest


def _placed(places: Sequence[str | None], number: int, rest: str) -> str | None:
    place = places[number] if number < len(places) else None
    return place if place in (None, "instructions") else place + rest
