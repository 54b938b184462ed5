"""A chat's messages: the many ways in which clients write them → the few that handlers know.

- ``developer`` is ``system``. All system messages, wherever they stand, become one at the front, in their order, with an empty
  line between them, because most chat templates accept nothing else.
- ``function`` (the deprecated role) is ``tool``, and an assistant's ``function_call`` is a tool call.
- Content may be text, parts, null or missing; a refusal is text.
- A tool call's arguments stay text, but text that is the JSON of an object: ``{}`` where the client sent nothing or nonsense.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from handlers.types import AudioPart, ImagePart, Message, Part, Role, TextPart, ToolCall
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.attachments import (
    MAX_ATTACHMENTS,
    Attachment,
    Media,
    first_remote,
    picture_at,
    sound_at,
    to_picture,
    to_recording,
    url_of,
)
from schemas.messages import (
    AudioContent,
    CalledFunction,
    ChatMessage,
    Content,
    ContentPart,
    FileContent,
    ImageContent,
    MessageToolCall,
    TextContent,
)

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "function": "tool"}
_SYSTEM = ("system", "developer")


def attachments_of(wire: list[ChatMessage]) -> tuple[Attachment, ...]:
    """The pictures and recordings of all messages. Raises ``InvalidRequest`` naming the field at fault, or too many."""
    found = list(_attached(wire))
    if len(found) > MAX_ATTACHMENTS:
        message = f"At most {MAX_ATTACHMENTS} images and recordings are allowed; {len(found)} were sent."
        raise InvalidRequest(message, param="messages")
    return tuple(
        to_picture(part.image_url, f"{where}.image_url")
        if isinstance(part, ImageContent)
        else to_recording(part.input_audio, f"{where}.input_audio")
        for part, where in found
    )


def remote_of(wire: list[ChatMessage]) -> str | None:
    """The first field that has its file on another server."""
    return first_remote(
        (f"{where}.image_url", url_of(part.image_url))
        if isinstance(part, ImageContent)
        else (f"{where}.input_audio", part.input_audio.data)
        for part, where in _attached(wire)
    )


def _attached(wire: list[ChatMessage]) -> Iterator[tuple[ImageContent | AudioContent, str]]:
    """The parts that are files, and where they stand."""
    for number, message in enumerate(wire):
        if isinstance(message.content, list):
            for place, part in enumerate(message.content):
                if isinstance(part, ImageContent | AudioContent):
                    yield part, f"messages[{number}].content[{place}]"


def to_messages(wire: list[ChatMessage], media: Media) -> tuple[Message, ...]:
    """``media`` are the attachments, decoded. Raises ``InvalidRequest`` and ``UnsupportedParameter`` naming the field."""
    instructions: list[str] = []
    messages: list[Message] = []
    for number, message in enumerate(wire):
        where = f"messages[{number}]"
        if message.role in _SYSTEM:
            instructions.append(_system_text(message, where, media))
        else:
            messages.append(_to_message(message, where, media))
    text = "\n\n".join(filter(None, instructions))
    system = (Message(role="system", parts=(TextPart(text=text),)),) if text else ()
    if not system and not messages:
        raise InvalidRequest("'messages' must hold more than empty system messages.", param="messages")
    return (*system, *messages)


def _system_text(message: ChatMessage, where: str, media: Media) -> str:
    parts = _to_parts(message.content, where, media)
    for number, part in enumerate(parts):
        if not isinstance(part, TextPart):
            raise InvalidRequest("A system message can only hold text.", param=f"{where}.content[{number}]")
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _to_message(message: ChatMessage, where: str, media: Media) -> Message:
    if message.audio is not None:
        raise UnsupportedParameter("Earlier spoken answers are not kept; send their transcript.", param=f"{where}.audio")
    content = message.refusal if message.content is None else message.content
    return Message(
        role=_ROLES[message.role],
        parts=_to_parts(content, where, media),
        tool_calls=_to_tool_calls(message, where),
        tool_call_id=message.tool_call_id,
        name=message.name,
        reasoning=message.reasoning if message.reasoning_content is None else message.reasoning_content,
    )


def _to_parts(content: Content | None, where: str, media: Media) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(text=content),)
    return tuple(_to_part(part, f"{where}.content[{number}]", media) for number, part in enumerate(content))


def _to_part(part: ContentPart, where: str, media: Media) -> Part:
    if isinstance(part, TextContent):
        return TextPart(text=part.text)
    if isinstance(part, ImageContent):
        detail = None if isinstance(part.image_url, str) else part.image_url.detail
        return ImagePart(picture=picture_at(media, f"{where}.image_url"), detail=detail or "auto")
    if isinstance(part, AudioContent):
        return AudioPart(sound=sound_at(media, f"{where}.input_audio"))
    if isinstance(part, FileContent):
        raise UnsupportedParameter("Files are not supported; send their text.", param=f"{where}.file")
    return TextPart(text=part.refusal)


def _to_tool_calls(message: ChatMessage, where: str) -> tuple[ToolCall, ...]:
    calls = [_to_tool_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(message.tool_calls or ())]
    if message.function_call is not None:
        calls.append(_function_call("call_0", message.function_call))
    return tuple(calls)


def _to_tool_call(call: MessageToolCall, where: str) -> ToolCall:
    identifier = call.id or f"call_{where}"
    if call.function is not None:
        return _function_call(identifier, call.function)
    if call.custom is not None:
        arguments = msgspec.json.encode({"input": call.custom.input or ""}).decode()
        return ToolCall(id=identifier, name=call.custom.name, arguments=arguments)
    param = f"{where}.function"
    raise InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def _function_call(identifier: str, function: CalledFunction) -> ToolCall:
    return ToolCall(id=identifier, name=function.name, arguments=_arguments(function.arguments))


def _arguments(arguments: object) -> str:
    try:
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        return text if isinstance(msgspec.json.decode(text), dict) else "{}"
    except (msgspec.DecodeError, RecursionError):
        return "{}"
