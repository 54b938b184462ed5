"""Decoding by transformers' ``generate()``: our chooser stands in its loop, takes a step's logits and says the next tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t
from handlers.decoding.logprobs import Scored, score, spell
from handlers.decoding.params import TextConfig
from handlers.decoding.prefill import CHUNK, can_prefill, prefill, score_prompt
from handlers.decoding.sampler import Sampler
from handlers.decoding.sequence import Answer, Piece, Sequence
from handlers.decoding.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

Emit = Callable[[Piece], None]


class Prompt(Struct, frozen=True, kw_only=True):
    """A prompt ready to run. ``text`` is what ``echo`` repeats; ``limit`` is how many tokens each answer may have."""

    ids: tuple[int, ...]
    text: str
    limit: int


class Engine:
    """Answers one prompt at a time, all of its choices in one batch."""

    def __init__(self, model: Any, vocabulary: Vocabulary, *, vocab_size: int) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._vocab_size = vocab_size

    def run(self, prompt: Prompt, config: TextConfig, *, first: int, ctx: t.RunContext, emit: Emit) -> tuple[Answer, ...]:
        """``config.n`` answers, numbered from ``first``. Raises what ``ctx`` raises, within one step."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([prompt.ids], dtype=torch.long, device=self._model.device)
            echo = self._echo(prompt, ids, config, ctx)
            sequences = [self._sequence(first + i, prompt, config) for i in range(config.n)]
            for sequence in sequences:
                if echo is not None:
                    emit(Piece(index=sequence.index, text=echo.text, logprobs=echo.logprobs))
            if not all(sequence.finished for sequence in sequences):
                self._generate(ids, sequences, prompt, config, ctx, emit)
        return tuple(_with_echo(sequence.answer(), echo) for sequence in sequences)

    def _sequence(self, index: int, prompt: Prompt, config: TextConfig) -> Sequence:
        offset = len(prompt.text) if config.echo else 0
        return Sequence(index, config, self._vocabulary, limit=prompt.limit, offset=offset)

    def _generate(
        self, ids: Tensor, sequences: list[Sequence], prompt: Prompt, config: TextConfig, ctx: t.RunContext, emit: Emit
    ) -> None:
        from transformers import GenerationConfig

        past = self._shared_past(ids, len(sequences), ctx)
        batch = ids.expand(len(sequences), -1)
        samplers = [
            Sampler(config, prompt.ids, vocab_size=self._vocab_size, index=sequence.index, device=ids.device)
            for sequence in sequences
        ]
        chooser = _Chooser(sequences, samplers, config, ctx, emit)
        self._model.generate(
            batch,
            attention_mask=batch.new_ones(batch.shape),
            generation_config=GenerationConfig(max_new_tokens=prompt.limit, do_sample=False, pad_token_id=0),
            logits_processor=[chooser],
            stopping_criteria=[chooser.stopped],
            **past,
        )

    def _shared_past(self, ids: Tensor, copies: int, ctx: t.RunContext) -> dict[str, Any]:
        """The prompt's cache where running it beforehand is worth it; else ``generate()`` runs the prompt itself."""
        length = ids.shape[1]
        if length < 2 or (copies == 1 and length <= CHUNK) or not can_prefill(self._model):
            return {}
        cache = prefill(self._model, ids, ctx)
        if copies > 1:
            cache.batch_repeat_interleave(copies)
        return {"past_key_values": cache}

    def _echo(self, prompt: Prompt, ids: Tensor, config: TextConfig, ctx: t.RunContext) -> Piece | None:
        if not config.echo:
            return None
        logprobs: list[t.TokenLogprob] = []
        if config.logprobs is not None:
            offset = 0
            for scored in score_prompt(self._model, ids, config.logprobs, ctx):
                logprobs.append(spell(scored, self._vocabulary, offset))
                offset = min(len(prompt.text), offset + len(self._vocabulary.token_text(scored.token)))
        return Piece(index=0, text=prompt.text, logprobs=tuple(logprobs))


class _Chooser:
    """A logits processor that decides: it leaves nothing but the chosen tokens for ``generate()`` to pick."""

    def __init__(
        self, sequences: list[Sequence], samplers: list[Sampler], config: TextConfig, ctx: t.RunContext, emit: Emit
    ) -> None:
        self._pairs = list(zip(sequences, samplers, strict=True))
        self._alternatives = config.logprobs if config.logprobs is not None else (0 if config.ranks else None)
        self._ctx = ctx
        self._emit = emit

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        import torch

        self._ctx.check()
        forced = torch.full_like(scores, float("-inf"))
        for row, (sequence, sampler) in enumerate(self._pairs):
            forced[row, 0 if sequence.finished else self._step(sequence, sampler, scores[row])] = 0.0
        return forced

    def stopped(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:
        import torch

        return torch.tensor([sequence.finished for sequence, _ in self._pairs], device=input_ids.device)

    def _step(self, sequence: Sequence, sampler: Sampler, logits: Tensor) -> int:
        token = sampler.choose(logits)
        scored: Scored | None = None
        if self._alternatives is not None:
            scored = score(logits[None], [token], self._alternatives)[0]
        piece = sequence.accept(token, scored)
        if piece is not None:
            self._emit(piece)
        return token


def _with_echo(answer: Answer, echo: Piece | None) -> Answer:
    if echo is None:
        return answer
    logprobs = None if answer.logprobs is None else echo.logprobs + answer.logprobs
    return Answer(
        index=answer.index,
        text=echo.text + answer.text,
        tokens=answer.tokens,
        finish_reason=answer.finish_reason,
        logprobs=logprobs,
        mean_logprob=answer.mean_logprob,
    )
