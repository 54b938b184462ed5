"""`/v1/completions`: request, answer and chunk (the last two have one shape)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import Choices, CompletionUsage, SamplingFields, TokenCountOrZero, TokenId

TokenIds = Annotated[list[TokenId], Meta(max_length=1_000_000)]
Prompts = Annotated[list[str | TokenId | TokenIds], Meta(max_length=1_000_000)]
Suffix = Annotated[str, Meta(max_length=1_000_000)]


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """``prompt`` is a text, a list of texts, token ids, or a list of lists of token ids."""

    prompt: str | Prompts | None = None
    max_tokens: TokenCountOrZero | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    best_of: Choices | None = None
    suffix: Suffix | None = None


class CompletionLogprobs(Struct, frozen=True, kw_only=True):
    """Parallel lists, one entry a token; the first token of an echoed prompt has no probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Struct, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length", "content_filter"] | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """The whole answer; each event of a stream has the same shape."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"
