"""Choosing one sequence's next token. All of it is tensor work: no Python runs over the vocabulary.

The order: repetition, frequency and presence penalties, ``logit_bias``, ``min_tokens``; then temperature, ``top_k``, ``top_p``,
``min_p``, each on what the one before left. Presence and frequency count the answer's tokens, repetition the prompt's too.
"""

from __future__ import annotations

from collections.abc import Sequence as Ids
from typing import TYPE_CHECKING, Any

from handlers.decoding.params import TextConfig

if TYPE_CHECKING:
    from torch import Tensor

_SEEDS = (1 << 64) - 1


class Sampler:
    """One choice's own state: its token counts and its own random generator, so that requests never disturb one another.

    Args:
        vocab_size: length of the model's logits.
        index: number of the choice; each has a seed of its own, derived from the request's.
    """

    def __init__(self, config: TextConfig, prompt: Ids[int], *, vocab_size: int, index: int, device: Any) -> None:
        import torch

        self._config = config
        self._generated = 0
        self._bias = self._bias_of(config, device)
        self._stops = torch.tensor(sorted(config.stop_ids), dtype=torch.long, device=device)
        self._counts = torch.zeros(vocab_size, device=device) if config.presence_penalty or config.frequency_penalty else None
        self._seen: Tensor | None = None
        if config.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            self._seen[torch.tensor(prompt, dtype=torch.long, device=device)] = True
        self._generator = torch.Generator(device=device)
        if config.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed((config.seed + index) & _SEEDS)

    def choose(self, logits: Tensor) -> int:
        """The next token for float32 ``logits`` of shape ``[vocab]``, which are left as they are."""
        logits = self._adjust(logits)
        token = int(logits.argmax()) if self._config.greedy else self._draw(logits)
        self._generated += 1
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True
        return token

    def _adjust(self, logits: Tensor) -> Tensor:
        import torch

        config = self._config
        if self._seen is not None:
            penalty = config.repetition_penalty
            logits = torch.where(self._seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        if self._counts is not None:
            logits = logits - config.frequency_penalty * self._counts - config.presence_penalty * (self._counts > 0)
        if self._bias is not None:
            logits = logits.index_add(0, *self._bias)
        if self._generated < config.min_tokens and len(self._stops):
            logits = logits.index_fill(0, self._stops, float("-inf"))
        return logits

    def _draw(self, logits: Tensor) -> int:
        """One random number looked up in the cumulated probabilities: far cheaper than a number for each token."""
        import torch

        probabilities = torch.softmax(logits / self._config.temperature, dim=-1)
        values, tokens = self._candidates(probabilities)
        ladder = values.cumsum(0)
        above_zero = 1 - torch.rand(1, generator=self._generator, device=values.device)
        choice = torch.searchsorted(ladder, above_zero * ladder[-1])
        return int(choice if tokens is None else tokens[choice])

    def _candidates(self, probabilities: Tensor) -> tuple[Tensor, Tensor | None]:
        """Probabilities of the tokens that may be drawn, and their ids (None: every id in order)."""
        config = self._config
        if config.top_k == 0 and config.top_p >= 1.0:
            least = config.min_p * probabilities.max()
            return probabilities * (probabilities >= least), None
        values, tokens = self._ranked(probabilities)
        before = (values.cumsum(0) - values) / (values.sum() if config.top_k else 1.0)
        keep = (before < config.top_p) & (values >= config.min_p * values[0])
        keep[0] = True
        return values * keep, tokens

    def _ranked(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest first. Tokens below the floor weigh less than ``1 - top_p`` together: ``top_p`` never reaches them, and
        they need no sorting."""
        size, config = len(probabilities), self._config
        if config.top_k:
            values, tokens = probabilities.topk(min(size, config.top_k))
            return values, tokens
        floor = (1 - config.top_p) / (2 * size)
        tokens = (probabilities >= floor).nonzero()[:, 0]
        values, order = probabilities[tokens].sort(descending=True)
        return values, tokens[order]

    @staticmethod
    def _bias_of(config: TextConfig, device: Any) -> tuple[Tensor, Tensor] | None:
        import torch

        if not config.logit_bias:
            return None
        ids = torch.tensor(list(config.logit_bias), dtype=torch.long, device=device)
        return ids, torch.tensor(list(config.logit_bias.values()), dtype=torch.float32, device=device)
