"""`/v1/completions`: wire ⇄ domain."""

from __future__ import annotations

from typing import Literal

from handlers.types import Prompt, TextChoice, TextDelta, TextRequest, TextResult, Verb
from openai_compat.errors import InvalidRequest
from openai_compat.translate.common import Facts, Meta, Refusal, refuse, sampling_of, to_usage, wants_usage
from openai_compat.translate.logprobs import to_completion_logprobs
from openai_compat.translate.stream import TextStream, encode
from openai_compat.translate.structured import grammar_of
from schemas.completions import Completion, CompletionChoice, CompletionRequest

ID_PREFIX = "cmpl"
DEFAULT_MAX_TOKENS = 16
"""What OpenAI's API does when the client says nothing; a mode's own value goes before it."""
MAX_CHOICES = 128

REFUSED: tuple[Refusal, ...] = (Refusal("suffix", "Text cannot be inserted before a suffix.", lambda b: bool(b.suffix)),)


# ---------------------------------------------------------------- request


def plan(body: CompletionRequest) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    _check(body, to_prompts(body))
    grammar_of(body)
    return "generate_text"


def to_request(body: CompletionRequest, facts: Facts) -> TextRequest:
    """Raises what ``plan`` raises. The request's own mode wins over the one in the model's name."""
    prompts = to_prompts(body)
    _check(body, prompts)
    mode = body.mode or facts.mode
    default = DEFAULT_MAX_TOKENS if mode is None else None
    max_tokens = default if body.max_tokens is None else body.max_tokens
    return TextRequest(
        prompts=prompts,
        sampling=sampling_of(body, max_tokens=max_tokens, logprobs=body.logprobs, best_of=body.best_of),
        grammar=grammar_of(body),
        mode=mode,
        mode_options=body.mode_options or {},
        echo=bool(body.echo),
        stream=bool(body.stream),
        cache_salt=facts.cache_salt,
    )


def _check(body: CompletionRequest, prompts: tuple[Prompt, ...]) -> None:
    refuse(body, REFUSED)
    n, best_of = body.n or 1, body.best_of
    if best_of is not None and best_of < n:
        raise InvalidRequest(f"'best_of' must not be smaller than 'n' ({n}).", param="best_of")
    if body.stream and best_of is not None and best_of > n:
        raise InvalidRequest("'best_of' must not be larger than 'n' in a stream.", param="best_of")
    if len(prompts) * (best_of or n) > MAX_CHOICES:
        raise InvalidRequest(f"At most {MAX_CHOICES} choices over all prompts are allowed.", param="prompt")
    if body.max_tokens == 0 and not body.echo:
        raise InvalidRequest("'max_tokens' can be 0 only together with 'echo'.", param="max_tokens")


def to_prompts(body: CompletionRequest) -> tuple[Prompt, ...]:
    """A text, texts, token ids, or lists of token ids. Raises ``InvalidRequest`` for none or a mixture."""
    prompt = body.prompt
    if prompt is None:
        raise InvalidRequest("Missing required parameter: 'prompt'.", param="prompt", code="missing_required_parameter")
    if isinstance(prompt, str):
        return (prompt,)
    if prompt and all(isinstance(entry, int) for entry in prompt):
        return (tuple(entry for entry in prompt if isinstance(entry, int)),)
    texts = tuple(entry for entry in prompt if isinstance(entry, str))
    ids = tuple(tuple(entry) for entry in prompt if isinstance(entry, list) and entry)
    for kind in (texts, ids):
        if prompt and len(kind) == len(prompt):
            return kind
    raise InvalidRequest("'prompt' must be a text, texts, token ids, or lists of token ids, and none empty.", param="prompt")


# ---------------------------------------------------------------- answer


def to_response(result: TextResult, meta: Meta) -> Completion:
    return Completion(
        id=meta.id,
        created=meta.created,
        model=meta.model,
        choices=[_to_choice(choice) for choice in result.choices],
        usage=to_usage(result.usage),
    )


def _to_choice(choice: TextChoice) -> CompletionChoice:
    return CompletionChoice(
        index=choice.index,
        text=choice.text,
        logprobs=None if choice.logprobs is None else to_completion_logprobs(choice.logprobs),
        finish_reason=_reason(choice),
    )


def _reason(choice: TextChoice) -> Literal["stop", "length", "content_filter"]:
    """The legacy API knows no tools."""
    return "stop" if choice.finish_reason == "tool_calls" else choice.finish_reason


class CompletionStream(TextStream):
    """The events of one answer; ``schemas.completions.Completion`` is what they hold."""

    def __init__(self, meta: Meta, *, include_usage: bool) -> None:
        super().__init__(meta, object="text_completion", include_usage=include_usage)
        self._close = b',"logprobs":null,"finish_reason":null' + self._tail

    @classmethod
    def of(cls, body: CompletionRequest, meta: Meta) -> CompletionStream:
        return cls(meta, include_usage=wants_usage(body))

    def _begin(self, delta: TextDelta) -> bytes:
        return b""

    def _piece(self, delta: TextDelta) -> bytes:
        head = self._open + b'%d,"text":' % delta.index + encode(delta.text)
        if not delta.logprobs:
            return head + self._close
        return head + b',"logprobs":' + encode(to_completion_logprobs(delta.logprobs)) + b',"finish_reason":null' + self._tail

    def _end(self, choice: TextChoice) -> bytes:
        reason = encode(_reason(choice))
        return self._open + b'%d,"text":"","logprobs":null,"finish_reason":' % choice.index + reason + self._tail
