"""`/v1/chat/completions`: request, answer and chunk."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import Anything, CompletionUsage, Label, Name, SamplingFields, TokenCount
from schemas.messages import Messages

TemplateOption = (
    Annotated[str, Meta(max_length=1024)]
    | Annotated[int, Meta(ge=-(2**31), le=2**31)]
    | Annotated[float, Meta(ge=-1e9, le=1e9)]
    | bool
    | None
)
TemplateOptions = Annotated[dict[Name, TemplateOption], Meta(max_length=32)]
Description = Annotated[str, Meta(max_length=65_536)]


# ---------------------------------------------------------------- tools


class FunctionDefinition(Struct, frozen=True, kw_only=True):
    name: Name
    description: Description | None = None
    parameters: Anything | None = None
    strict: bool | None = None


class CustomDefinition(Struct, frozen=True, kw_only=True):
    name: Name
    description: Description | None = None
    format: Anything | None = None


class Tool(Struct, frozen=True, kw_only=True):
    type: Literal["function", "custom"] = "function"
    function: FunctionDefinition | None = None
    custom: CustomDefinition | None = None


class NamedFunction(Struct, frozen=True, kw_only=True):
    name: Name


class AllowedTools(Struct, frozen=True, kw_only=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[Anything], Meta(max_length=128)]


class NamedToolChoice(Struct, frozen=True, kw_only=True):
    type: Literal["function", "custom", "allowed_tools"]
    function: NamedFunction | None = None
    custom: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


# ---------------------------------------------------------------- request


class ChatCompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """Every key that OpenAI's clients know, and ``chat_template_kwargs`` of ours (scalars under a list of allowed names)."""

    messages: Messages
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Meta(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    modalities: Annotated[list[Literal["text", "audio", "image"]], Meta(max_length=8)] | None = None
    audio: Anything | None = None
    prediction: Anything | None = None
    web_search_options: Anything | None = None
    moderation: Anything | None = None
    metadata: Anything | None = None
    store: bool | None = None
    service_tier: Label | None = None
    verbosity: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: Anything | None = None
    prompt_cache_retention: Label | None = None

    chat_template_kwargs: TemplateOptions | None = None
    chat_template: Any = None


# ---------------------------------------------------------------- answer


class TopTokenLogprob(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: list[int] | None


class ChatTokenLogprob(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopTokenLogprob]


class ChatLogprobs(Struct, frozen=True, kw_only=True):
    content: list[ChatTokenLogprob] | None
    refusal: list[ChatTokenLogprob] | None = None


class FunctionCall(Struct, frozen=True, kw_only=True):
    """``arguments`` is JSON text."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True, kw_only=True):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class AnswerImageUrl(Struct, frozen=True, kw_only=True):
    """``url`` is a data URL."""

    url: str


class AnswerImage(Struct, frozen=True, kw_only=True):
    type: Literal["image_url"] = "image_url"
    image_url: AnswerImageUrl


class AssistantMessage(Struct, frozen=True, kw_only=True):
    """``content`` is null where there are calls alone. ``reasoning_content`` and ``reasoning`` are two names of one thing.

    ``images`` is there where the answer is a picture; it has the shape of OpenRouter's.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    images: list[AnswerImage] | UnsetType = UNSET


class ChatChoice(Struct, frozen=True, kw_only=True):
    """``stop_reason`` is there where one of the request's stop strings ended the answer; vLLM's clients read it."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    stop_reason: str | UnsetType = UNSET


class ChatCompletion(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage


# ---------------------------------------------------------------- stream


class FunctionCallPiece(Struct, frozen=True, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str


class ToolCallPiece(Struct, frozen=True, kw_only=True):
    """The first piece of a call has all keys and no arguments yet; the others have only ``index`` and arguments."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionCallPiece


class ChatDelta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallPiece] | UnsetType = UNSET
    images: list[AnswerImage] | UnsetType = UNSET


class ChatChunkChoice(Struct, frozen=True, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None
    stop_reason: str | UnsetType = UNSET


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """``usage`` is missing unless asked for, then null in every chunk but the last, which has no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
