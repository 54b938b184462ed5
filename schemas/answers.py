"""Answers of chats as they come from any model, ours or an upstream's: what is read of them before they get another shape.

Servers leave out keys, send null for them, and add others; so everything here may be missing.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class ReadFunction(Struct, frozen=True, kw_only=True):
    name: str | None = None
    arguments: str | None = None


class ReadCall(Struct, frozen=True, kw_only=True):
    """A call, or of a stream a piece of one. Without an ``index`` it is the one at its place in the list."""

    index: int | None = None
    id: str | None = None
    function: ReadFunction | None = None


class ReadMessage(Struct, frozen=True, kw_only=True):
    """A message, or of a stream what is new of it. ``reasoning_content`` and ``reasoning`` are two names of one thing."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ReadCall] | None = None

    @property
    def thought(self) -> str:
        return self.reasoning_content or self.reasoning or ""


class ReadLogprobs(Struct, frozen=True, kw_only=True):
    """``content`` has an object for each token, in the shape of ``schemas.chat.ChatTokenLogprob``."""

    content: list[dict[str, Any]] | None = None


class ReadChoice(Struct, frozen=True, kw_only=True):
    """``message`` of a whole answer, ``delta`` of a chunk. ``stop_reason`` is the stop string that ended it, or a token's id,
    of the few servers that tell; others may mean something else by it.
    """

    index: int = 0
    message: ReadMessage | None = None
    delta: ReadMessage | None = None
    logprobs: ReadLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None

    @property
    def said(self) -> ReadMessage:
        return self.message or self.delta or _NOTHING


class ReadPromptDetails(Struct, frozen=True, kw_only=True):
    cached_tokens: int | None = None


class ReadCompletionDetails(Struct, frozen=True, kw_only=True):
    reasoning_tokens: int | None = None


class ReadUsage(Struct, frozen=True, kw_only=True):
    """Counts in tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: ReadPromptDetails | None = None
    completion_tokens_details: ReadCompletionDetails | None = None

    @property
    def cached(self) -> int:
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0

    @property
    def thought(self) -> int:
        return (self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens) or 0


class ReadAnswer(Struct, frozen=True, kw_only=True):
    """A chat completion, or one chunk of a streamed one."""

    id: str | None = None
    model: str | None = None
    choices: list[ReadChoice] | None = None
    usage: ReadUsage | None = None
    service_tier: str | None = None


_NOTHING = ReadMessage()
