"""Tokens that a step has chosen on the device, before anybody has read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.decoding.logprobs import Ranked, Scored, rank
from handlers.decoding.sampler import sample, settle
from handlers.decoding.sequence import Sequence
from handlers.decoding.transfer import Arriving, place

if TYPE_CHECKING:
    from torch import Tensor

Chosen = tuple[Sequence, int, Scored | None]


class Launch:
    """One token for each of some sequences, whose ids end in ``UNREAD`` until it is read.

    Args:
        logits: float32, ``[sequences, vocab]``; they may change.

    Attributes:
        usable: tokens, int64, ``[sequences]``, on the device; token 0 where the logits are no numbers.
        rows: each sequence's row of them, by its order.
    """

    def __init__(self, ready: list[Sequence], logits: Tensor) -> None:
        self._ready = ready
        self._asking = [row for row, sequence in enumerate(ready) if _alternatives(sequence) is not None]
        untouched = logits.index_select(0, place(self._asking, logits.device)) if self._asking else None
        tokens = sample(logits, [sequence.choices for sequence in ready])
        self.usable = tokens.clamp(min=0)
        self.rows = {sequence.order: row for row, sequence in enumerate(ready)}
        self._arriving = Arriving(tokens)
        self._ranked = None if untouched is None else self._rank(untouched)
        for sequence in ready:
            sequence.expect()

    def read(self) -> list[Chosen]:
        """Wait for the tokens, and let the sequences know theirs."""
        tokens = self._arriving.read()
        settle(tokens, [sequence.choices for sequence in self._ready])
        for sequence, token in zip(self._ready, tokens, strict=True):
            sequence.learn(token)
        return list(zip(self._ready, tokens, self._scored(tokens), strict=True))

    def _rank(self, untouched: Tensor) -> Ranked:
        most = max(_alternatives(self._ready[row]) or 0 for row in self._asking)
        return rank(untouched, self.usable.index_select(0, place(self._asking, self.usable.device)), most)

    def _scored(self, tokens: list[int]) -> list[Scored | None]:
        scored: list[Scored | None] = [None] * len(tokens)
        if self._ranked is not None:
            for row, found in zip(self._asking, self._ranked.scored([tokens[row] for row in self._asking]), strict=True):
                scored[row] = Scored(found.token, found.logprob, found.top[: _alternatives(self._ready[row])])
        return scored


def _alternatives(sequence: Sequence) -> int | None:
    """How many log probabilities beside the chosen token's own are needed; None: not even that."""
    config = sequence.ticket.config
    return config.logprobs if config.logprobs is not None else 0 if config.ranks else None
