"""What chat and legacy completions share on their way between wire and domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from handlers.types import Sampling, Usage
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from schemas.common import CompletionTokensDetails, CompletionUsage, PromptTokensDetails, SamplingFields, Stop


class Facts(Protocol):
    """The part of ``protocol.RelayFacts`` that shapes a request."""

    @property
    def mode(self) -> str | None: ...
    @property
    def cache_salt(self) -> str: ...


class Meta(Struct, frozen=True, kw_only=True):
    """What is equal in every piece of one answer. ``created`` is a Unix time; ``model`` the name that the client used."""

    id: str
    created: int
    model: str


class Refusal(NamedTuple):
    """A known field that is refused: wholly, or for the values that ``when`` picks. Honouring it means deleting its line."""

    param: str
    reason: str
    when: Callable[[Any], bool]


def check_one_line(text: str, param: str) -> None:
    """For what a pattern has let through: its ``$`` is there before a line's end, too. Raises ``InvalidRequest``."""
    if text.endswith("\n"):
        raise InvalidRequest(f"Invalid value for '{param}': it ends with a line break.", param=param, code="invalid_value")


def refuse(body: Struct, refusals: Sequence[Refusal]) -> None:
    """Raises ``UnsupportedParameter`` for the first line of the table that applies."""
    for param, reason, when in refusals:
        if when(body):
            raise UnsupportedParameter(f"Unsupported parameter: '{param}'. {reason}", param=param)


def sampling_of(body: SamplingFields, *, max_tokens: int | None, logprobs: int | None, best_of: int | None = None) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(0, body.top_k),
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias=body.logit_bias or {},
        seed=body.seed,
        stop=_stop_strings(body.stop),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        max_tokens=max_tokens,
        min_tokens=body.min_tokens,
        ignore_eos=bool(body.ignore_eos),
        n=body.n or 1,
        best_of=best_of,
        logprobs=logprobs,
    )


def _stop_strings(stop: Stop | None) -> tuple[str, ...]:
    """An empty string would stop everything at once; clients send it for "none"."""
    return tuple(text for text in ([stop] if isinstance(stop, str) else stop or ()) if text)


def wants_usage(body: SamplingFields) -> bool:
    return bool(body.stream_options and body.stream_options.include_usage)


def to_usage(usage: Usage) -> CompletionUsage:
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cached_tokens),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=usage.reasoning_tokens),
    )
