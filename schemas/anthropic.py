"""`/v1/messages`: requests in Anthropic's shape. Everything else about them is as in the other schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schemas.anthropic_blocks import InputMessage, TextBlock
from schemas.chat import Description
from schemas.common import Anything, Label, ModelName, Name, Share, StopString, Temperature
from schemas.structured import Schema

MOST_TOKENS = 2**31 - 1
ToolName = Annotated[str, Meta(min_length=1, max_length=128)]
AnthropicMessages = Annotated[list[InputMessage], Meta(min_length=1, max_length=8192)]


class AnthropicTool(Struct, frozen=True, kw_only=True):
    """A tool of one's own has an ``input_schema``; one that Anthropic defines has a ``type`` such as ``bash_20250124``."""

    name: ToolName | None = None
    type: Name | None = None
    description: Description | None = None
    input_schema: Schema | None = None
    strict: bool | None = None


class AnthropicToolChoice(Struct, frozen=True, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Struct, frozen=True, kw_only=True):
    """``budget_tokens`` belongs to ``enabled``; thoughts that are ``omitted`` travel in their signature alone."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=1024, le=MOST_TOKENS)] | None = None
    display: Literal["summarized", "omitted", "updates"] | None = None


class JsonOutputFormat(Struct, frozen=True, kw_only=True):
    type: Literal["json_schema"]
    schema: Schema


class OutputConfig(Struct, frozen=True, kw_only=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonOutputFormat | None = None
    task_budget: Any = None


class _PromptFields(Struct, frozen=True, kw_only=True):
    """What can be counted. The second group is taken and has no effect; ``thread`` is refused."""

    model: ModelName
    messages: AnthropicMessages
    system: str | Annotated[list[TextBlock], Meta(max_length=1024)] | None = None
    tools: Annotated[list[AnthropicTool], Meta(max_length=1024)] | None = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: JsonOutputFormat | None = None

    cache_control: Any = None
    context_management: Any = None
    mcp_servers: Any = None
    compaction: Any = None
    billing_policy: Any = None
    speed: Label | None = None
    thread: Any = None


class CreateMessageRequest(_PromptFields, frozen=True, kw_only=True):
    """With ``max_tokens`` 0 the prompt is read and kept for the next request, and nothing is said."""

    max_tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
    stream: bool | None = None
    stop_sequences: Annotated[list[StopString], Meta(max_length=4)] | None = None
    temperature: Temperature | None = None
    top_k: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None = None
    top_p: Share | None = None

    metadata: Anything | None = None
    service_tier: Label | None = None
    container: Any = None
    diagnostics: Any = None
    inference_geo: Label | None = None
    fallbacks: Any = None
    fallback_credit_token: Any = None


class CountMessageTokensRequest(_PromptFields, frozen=True, kw_only=True): ...


class MessageTokens(Struct, frozen=True, kw_only=True):
    input_tokens: int
