"""Bounds and objects that several resources share.

In requests ``None`` is unset, whether the client sent null or nothing. Unknown keys are ignored: clients are newer than we are.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from schemas.structured import Choices as AllowedTexts
from schemas.structured import Grammar, Regex, ResponseFormat, Schema, SchemaText, StructuredOutputs

_TOKEN_ID_MAX = 2**31 - 1

ModelName = Annotated[str, Meta(min_length=1, max_length=256, description="A model's id, an alias, or `id:mode`.")]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty = Annotated[float, Meta(gt=0, le=10)]
TokenId = Annotated[int, Meta(ge=0, le=_TOKEN_ID_MAX)]
TokenCount = Annotated[int, Meta(ge=1, le=_TOKEN_ID_MAX)]
TokenCountOrZero = Annotated[int, Meta(ge=0, le=_TOKEN_ID_MAX)]
TopK = Annotated[int, Meta(ge=-1, le=_TOKEN_ID_MAX, description="0 and -1 switch it off.")]
Choices = Annotated[int, Meta(ge=1, le=16)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
LogitBias = Annotated[dict[TokenId, Bias], Meta(max_length=300)]
StopString = Annotated[str, Meta(max_length=256)]
Stop = StopString | Annotated[list[StopString], Meta(max_length=4)]
StopTokenIds = Annotated[list[TokenId], Meta(max_length=64)]
Name = Annotated[str, Meta(max_length=256)]
Label = Annotated[str, Meta(max_length=1024)]
Mode = Annotated[str, Meta(min_length=1, max_length=64)]
ModeOptions = Annotated[dict[Name, Annotated[str, Meta(max_length=4096)]], Meta(max_length=32)]
Anything = Annotated[dict[str, Any], Meta(max_length=256)]


class StreamOptions(Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(Struct, frozen=True, kw_only=True):
    """What chat and legacy completions have in common; the second group is ours, beyond OpenAI's.

    ``response_format`` is OpenAI's in a chat.
    """

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Choices | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    user: Label | None = None

    mode: Mode | None = None
    mode_options: ModeOptions | None = None
    top_k: TopK | None = None
    min_p: Share | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: TokenCountOrZero | None = None
    ignore_eos: bool | None = None
    stop_token_ids: StopTokenIds | None = None
    response_format: ResponseFormat | None = None
    guided_json: Schema | SchemaText | None = None
    guided_regex: Regex | None = None
    guided_choice: AllowedTexts | None = None
    guided_grammar: Grammar | None = None
    structured_outputs: StructuredOutputs | None = None


class PromptTokensDetails(Struct, frozen=True, kw_only=True):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True, kw_only=True):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class CompletionUsage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class ErrorDetail(Struct, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail
