"""Log probabilities as the API shows them: natural logarithms of the model's own distribution, before any sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t
from handlers.decoding.transfer import Arriving, place
from handlers.decoding.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor


class Scored(Struct, frozen=True):
    """A token, its log probability (None for a first token, which nothing predicts), and the likeliest ids in its place."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


class Ranked:
    """How likely the tokens were that followed some rows of logits, and the likeliest beside them; on the way to the host."""

    def __init__(self, chosen: Tensor, likeliest: Any) -> None:
        self._chosen = Arriving(chosen)
        self._ids = Arriving(likeliest.indices)
        self._values = Arriving(likeliest.values)

    def scored(self, tokens: list[int]) -> list[Scored]:
        """One ``Scored`` for each row, whose token is known by now."""
        rows = zip(tokens, self._chosen.read(), self._ids.read(), self._values.read(), strict=True)
        return [Scored(token, logprob, tuple(zip(top, near, strict=True))) for token, logprob, top, near in rows]


def rank(logits: Tensor, tokens: Tensor, alternatives: int) -> Ranked:
    """``logits`` is float32, ``[rows, vocab]``; ``tokens``, int64, ``[rows]``, followed them. Nothing waits for the device."""
    import torch

    logprobs = torch.log_softmax(logits, dim=-1)
    return Ranked(logprobs.gather(1, tokens[:, None])[:, 0], logprobs.topk(min(alternatives, logits.shape[-1])))


def score(logits: Tensor, tokens: list[int], alternatives: int) -> list[Scored]:
    """One ``Scored`` for each row of ``logits`` (float32, ``[rows, vocab]``) and the token that followed it."""
    return rank(logits, place(tokens, logits.device), alternatives).scored(tokens)


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
