"""Log probabilities as the API shows them: natural logarithms of the model's own distribution, before any sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from handlers import types as t
from handlers.decoding.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor


class Scored(Struct, frozen=True):
    """A token, its log probability (None for a first token, which nothing predicts), and the likeliest ids in its place."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


def score(logits: Tensor, tokens: list[int], alternatives: int) -> list[Scored]:
    """One ``Scored`` for each row of ``logits`` (float32, ``[rows, vocab]``) and the token that followed it."""
    import torch

    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    values, ids = logprobs.topk(min(alternatives, logits.shape[-1]))
    rows = zip(tokens, chosen, ids.tolist(), values.tolist(), strict=True)
    return [Scored(token, logprob, tuple(zip(top, near, strict=True))) for token, logprob, top, near in rows]


def spell(scored: Scored, vocabulary: Vocabulary, text_offset: int) -> t.TokenLogprob:
    """The wire's form; ``text_offset`` counts characters from the beginning of the choice's text."""
    return t.TokenLogprob(
        token=vocabulary.token_text(scored.token),
        logprob=scored.logprob,
        token_bytes=vocabulary.token_bytes(scored.token),
        top=tuple(
            t.TopLogprob(token=vocabulary.token_text(n), logprob=value, token_bytes=vocabulary.token_bytes(n))
            for n, value in scored.top
        ),
        text_offset=text_offset,
    )
