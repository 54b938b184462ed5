"""The messages of a chat request, as clients really send them: every optional key may be missing or null."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schemas.common import Name

Url = Annotated[str, Meta(max_length=64 * 2**20)]
CallId = Annotated[str, Meta(max_length=256)]
Breakpoint = Annotated[dict[str, Any], Meta(max_length=16)]


class ImageUrl(Struct, frozen=True, kw_only=True):
    url: Url
    detail: Annotated[str, Meta(max_length=32)] | None = None


class InputAudio(Struct, frozen=True, kw_only=True):
    """``data`` is base64."""

    data: Url
    format: Annotated[str, Meta(max_length=32)] | None = None


class FileReference(Struct, frozen=True, kw_only=True):
    filename: Name | None = None
    file_data: Url | None = None
    file_id: Name | None = None


class TextContent(Struct, frozen=True, kw_only=True, tag="text"):
    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class ImageContent(Struct, frozen=True, kw_only=True, tag="image_url"):
    image_url: ImageUrl | Url
    prompt_cache_breakpoint: Breakpoint | None = None


class AudioContent(Struct, frozen=True, kw_only=True, tag="input_audio"):
    input_audio: InputAudio
    prompt_cache_breakpoint: Breakpoint | None = None


class FileContent(Struct, frozen=True, kw_only=True, tag="file"):
    file: FileReference
    prompt_cache_breakpoint: Breakpoint | None = None


class RefusalContent(Struct, frozen=True, kw_only=True, tag="refusal"):
    refusal: str


ContentPart = TextContent | ImageContent | AudioContent | FileContent | RefusalContent
Content = str | Annotated[list[ContentPart], Meta(max_length=1024)]


class CalledFunction(Struct, frozen=True, kw_only=True):
    """``arguments`` should be the JSON text of an object; some clients send the object itself, nothing, or broken JSON."""

    name: Name
    arguments: str | Annotated[dict[str, Any], Meta(max_length=1024)] | None = None


class CalledCustom(Struct, frozen=True, kw_only=True):
    name: Name
    input: str | None = None


class MessageToolCall(Struct, frozen=True, kw_only=True):
    id: CallId | None = None
    type: Literal["function", "custom"] | None = None
    function: CalledFunction | None = None
    custom: CalledCustom | None = None


class AudioReference(Struct, frozen=True, kw_only=True):
    id: Name


class ChatMessage(Struct, frozen=True, kw_only=True):
    """A message of any role. ``reasoning_content`` and ``reasoning`` are two names of the same thing."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Name | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[MessageToolCall], Meta(max_length=128)] | None = None
    tool_call_id: CallId | None = None
    function_call: CalledFunction | None = None
    audio: AudioReference | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


Messages = Annotated[list[ChatMessage], Meta(min_length=1, max_length=2048)]
