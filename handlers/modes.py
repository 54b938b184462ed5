"""How a mode's defaults join a request. Whatever the client said wins, field by field.

The rules, in the order they are applied:

1. A request without a mode has the mode ``auto`` where the handler has one. ``auto`` becomes ``multimodal`` if the messages
   hold a picture or sound and the handler has that mode; ``chat`` for messages where the model has a chat template or tools
   are offered; else ``complete``. Plain prompts are always ``complete``.
2. ``mode_options`` fill the mode's variables; a name the mode does not have is refused.
3. The input that the mode requires must be there.
4. The template is applied to the last user text, or to each prompt; ``{input}`` stands for that text.
5. Sampling fields that the client left open are taken from the mode.
6. The mode's system prompt is put in ``system_prompt``, unless the client set one. A renderer puts it before the client's own
   system messages, a blank line between them, so that the client has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec.structs import replace

from handlers import types as t
from openai_compat.errors import InvalidRequest, UnsupportedMode

if TYPE_CHECKING:
    from handlers.base import BaseHandler

RequestT = TypeVar("RequestT", bound=t.Request)
_FIELDS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")
_INPUT_FIELDS: dict[type, str] = {t.ImageRequest: "prompt", t.SpeechRequest: "text", t.VideoRequest: "prompt"}
_SPEECH_PARAM = "input"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
MAX_OPTION = 1024


def apply_mode(handler: BaseHandler, request: RequestT) -> RequestT:
    """Fill what the client left open. Raises ``UnsupportedMode``, and ``InvalidRequest`` for options and missing input."""
    if isinstance(request, t.TokenRequest):
        counted: Any = request if request.chat is None else replace(request, chat=apply_mode(handler, request.chat))
        return cast(RequestT, counted)
    name = request.mode or ("auto" if "auto" in handler.modes else None)
    if name is None:
        return request
    supported = handler.get_supported_modes(handler.spec)
    if name not in supported:
        raise UnsupportedMode(name, supported)
    if name == "auto":
        name = _automatic(handler, request, supported)
    mode = handler.modes[name]
    values = _values(name, mode, request)
    applied: Any = _apply_text(mode, request, values) if isinstance(request, t.TextRequest) else _other(mode, request, values)
    filled: RequestT = replace(applied, mode=name)
    return filled


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace ``{name}`` by its value in one pass: what a client writes is never expanded again."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)


def last_user(messages: tuple[t.Message, ...]) -> int | None:
    """The index of the last user message that has text."""
    return next((i for i in reversed(range(len(messages))) if messages[i].role == "user" and messages[i].text.strip()), None)


def _automatic(handler: BaseHandler, request: t.Request, supported: tuple[str, ...]) -> str:
    if not isinstance(request, t.TextRequest):
        return "auto"
    wanted = ["complete"]
    if request.messages is not None:
        if handler._has_chat_template() or request.tools:
            wanted.insert(0, "chat")
        if any(not isinstance(part, t.TextPart) for message in request.messages for part in message.parts):
            wanted.insert(0, "multimodal")
    return next((mode for mode in wanted if mode in supported), "auto")


def _values(name: str, mode: t.Mode, request: t.Request) -> dict[str, str]:
    options: dict[str, str] = getattr(request, "mode_options", {})
    for key, value in options.items():
        if key not in mode.variables:
            known = ", ".join(mode.variables) or "none"
            raise InvalidRequest(f"The mode '{name}' has no option '{key}'. Its options: {known}.", param=f"mode_options.{key}")
        if len(value) > MAX_OPTION:
            raise InvalidRequest(f"A mode option is at most {MAX_OPTION} characters long.", param=f"mode_options.{key}")
    return {**mode.variables, **options}


def _apply_text(mode: t.Mode, request: t.TextRequest, values: Mapping[str, str]) -> t.TextRequest:
    _require(mode, request)
    system = request.system_prompt
    if system is None and mode.system_prompt is not None:
        system = fill(mode.system_prompt, values)
    changed = request
    if mode.template is not None:
        changed = _templated(mode.template, request, values)
    return replace(changed, sampling=_sampling(mode, request.sampling), system_prompt=system)


def _templated(template: str, request: t.TextRequest, values: Mapping[str, str]) -> t.TextRequest:
    if request.messages is None:
        prompts = tuple(_text_prompt(template, prompt, values) for prompt in request.prompts or ())
        return replace(request, prompts=prompts)
    where = last_user(request.messages)
    if where is None:
        raise InvalidRequest("This mode needs a user message with text.", param="messages")
    message = request.messages[where]
    media = tuple(part for part in message.parts if not isinstance(part, t.TextPart))
    text = t.TextPart(text=fill(template, {**values, "input": message.text}))
    messages = (*request.messages[:where], replace(message, parts=(*media, text)), *request.messages[where + 1 :])
    return replace(request, messages=messages)


def _text_prompt(template: str, prompt: t.Prompt, values: Mapping[str, str]) -> str:
    if not isinstance(prompt, str):
        raise InvalidRequest("This mode needs prompts of text, not of token ids.", param="prompt")
    return fill(template, {**values, "input": prompt})


def _sampling(mode: t.Mode, asked: t.Sampling) -> t.Sampling:
    left_open = {name: getattr(mode, name) for name in _FIELDS if getattr(asked, name) is None}
    return replace(asked, **left_open)


def _require(mode: t.Mode, request: t.TextRequest) -> None:
    parts = [part for message in request.messages or () for part in message.parts]
    missing = {
        "messages": request.messages is None,
        "text": not _has_text(request),
        "image": not any(isinstance(part, t.ImagePart) for part in parts),
        "audio": not any(isinstance(part, t.AudioPart) for part in parts),
        "any": False,
    }
    if missing[mode.requires]:
        wanted = {"messages": "messages", "text": "a user text", "image": "a picture", "audio": "a recording"}[mode.requires]
        raise InvalidRequest(f"This mode needs {wanted}.", param=request.prompt_param)


def _has_text(request: t.TextRequest) -> bool:
    if request.messages is not None:
        return last_user(request.messages) is not None
    return all(prompt.strip() if isinstance(prompt, str) else prompt for prompt in request.prompts or ())


def _other(mode: t.Mode, request: Any, values: Mapping[str, str]) -> Any:
    field = _INPUT_FIELDS.get(type(request))
    if field is None:
        return request
    text: str = getattr(request, field)
    if mode.requires == "text" and not text.strip():
        param = _SPEECH_PARAM if field == "text" else field
        raise InvalidRequest("This mode needs a text.", param=param)
    return request if mode.template is None else replace(request, **{field: fill(mode.template, {**values, "input": text})})
