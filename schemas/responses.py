"""`/v1/responses`: what a request may hold. Items and tools have many shapes; ``translate.responses`` reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schemas.chat import TemplateOptions
from schemas.common import (
    Anything,
    Label,
    LogitBias,
    Mode,
    ModelName,
    ModeOptions,
    Name,
    Penalty,
    RepetitionPenalty,
    Seed,
    Share,
    Stop,
    StopTokenIds,
    Temperature,
    TokenCount,
    TokenCountOrZero,
    TopK,
)

MAX_ITEMS = 2048
MAX_TOOLS = 256

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Summary = Literal["auto", "concise", "detailed"]
Input = str | Annotated[list[Any], Meta(max_length=MAX_ITEMS)]
Tools = Annotated[list[Anything], Meta(max_length=MAX_TOOLS)]
MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)]


class ConversationReference(Struct, frozen=True, kw_only=True):
    id: Name


class ReasoningOptions(Struct, frozen=True, kw_only=True):
    """``generate_summary`` is the older name of ``summary``."""

    effort: Effort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None
    context: Label | None = None
    mode: Label | None = None


class TextOptions(Struct, frozen=True, kw_only=True):
    """``format`` is ``{"type": "text"}``, ``json_object``, or ``json_schema`` with its fields beside the type."""

    format: Anything | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponseStreamOptions(Struct, frozen=True, kw_only=True):
    include_obfuscation: bool | None = None


class ResponsePrompt(Struct, frozen=True, kw_only=True):
    """A prompt that a provider keeps."""

    id: Any = None


class TurnFields(Struct, frozen=True, kw_only=True):
    """What shapes the chat that a request becomes."""

    model: ModelName
    input: Input | None = None
    instructions: str | None = None
    previous_response_id: Name | None = None
    conversation: Name | ConversationReference | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | Anything | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None

    mode: Mode | None = None
    mode_options: ModeOptions | None = None
    chat_template_kwargs: TemplateOptions | None = None


class InputTokensRequest(TurnFields, frozen=True, kw_only=True):
    """`/v1/responses/input_tokens`."""

    personality: Label | None = None


class CreateResponseRequest(TurnFields, frozen=True, kw_only=True):
    """Every key that OpenAI's clients know, and at the end ours."""

    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    include: Annotated[list[Label], Meta(max_length=64)] | None = None
    max_output_tokens: TokenCount | None = None
    max_tool_calls: TokenCountOrZero | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    prompt: ResponsePrompt | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    service_tier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: Anything | None = None
    background_options: Anything | None = None
    context_management: Annotated[list[Anything], Meta(max_length=16)] | None = None
    access_programs: Anything | None = None
    moderation: Anything | None = None
    image: Anything | None = None

    seed: Seed | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    top_k: TopK | None = None
    min_p: Share | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: TokenCountOrZero | None = None
    ignore_eos: bool | None = None
    stop_token_ids: StopTokenIds | None = None
