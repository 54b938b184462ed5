"""Token probabilities in the two shapes of the API."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.types import TokenLogprob
from schemas.chat import ChatLogprobs, ChatTokenLogprob, TopTokenLogprob
from schemas.completions import CompletionLogprobs

LEAST = -9999.0
"""Stands for minus infinity, which JSON cannot say; the value that OpenAI uses."""


def to_chat_logprobs(entries: Sequence[TokenLogprob]) -> ChatLogprobs:
    return ChatLogprobs(content=[_chat_entry(entry) for entry in entries])


def _chat_entry(entry: TokenLogprob) -> ChatTokenLogprob:
    return ChatTokenLogprob(
        token=entry.token,
        logprob=_finite(entry.logprob),
        bytes=list(entry.token_bytes),
        top_logprobs=[
            TopTokenLogprob(token=top.token, logprob=_finite(top.logprob), bytes=list(top.token_bytes)) for top in entry.top
        ],
    )


def to_completion_logprobs(entries: Sequence[TokenLogprob]) -> CompletionLogprobs:
    """``top_logprobs`` always holds the chosen token, so it may have one entry more than was asked for."""
    return CompletionLogprobs(
        tokens=[entry.token for entry in entries],
        token_logprobs=[None if entry.logprob is None else _finite(entry.logprob) for entry in entries],
        top_logprobs=[_alternatives(entry) for entry in entries],
        text_offset=[entry.text_offset for entry in entries],
    )


def _alternatives(entry: TokenLogprob) -> dict[str, float] | None:
    if entry.logprob is None:
        return None
    return {entry.token: _finite(entry.logprob)} | {top.token: _finite(top.logprob) for top in entry.top}


def _finite(logprob: float | None) -> float:
    return LEAST if logprob is None or not logprob > LEAST else logprob
