"""Choosing the next tokens of a whole batch. All of it is tensor work: no Python runs over the vocabulary.

The order: repetition, frequency and presence penalties, ``logit_bias``, ``min_tokens``, the grammar; then temperature,
``top_k``, ``top_p``, ``min_p``, each on what the one before left. Presence and frequency count the answer's tokens, repetition
the prompt's too. What is drawn for a row depends on this row alone, whoever is beside it.
"""

from __future__ import annotations

from collections.abc import Sequence as Ids
from typing import TYPE_CHECKING, Any, Protocol

from handlers.decoding import ranking
from handlers.decoding.params import TextConfig
from handlers.decoding.transfer import place
from openai_compat.errors import APIError

if TYPE_CHECKING:
    from torch import Tensor

_SEEDS = (1 << 64) - 1
_WORD = 32
BROKEN = -1
"""In place of a token where the model's logits are no numbers, or none was left to choose."""


class Matcher(Protocol):
    """Where one answer stands in its grammar.

    Attributes:
        finished: nothing may follow.
        error: it cannot be followed any further, and the answer must not be given.
    """

    finished: bool
    error: APIError | None

    def fill_mask(self, row: Tensor) -> bool:
        """Set the bits of the tokens that may follow in ``row`` (int32, 32 tokens each). False: every token may."""

    def accept(self, token: int) -> bool:
        """Go on with ``token``; False if it may not follow."""


class Choices:
    """One answer's own state: token counts, grammar, random generator. So requests never disturb one another.

    Args:
        vocab_size: length of the model's logits.
        index: number of the choice; each has a seed of its own, derived from the request's.
    """

    def __init__(
        self,
        config: TextConfig,
        prompt: Ids[int],
        *,
        vocab_size: int,
        index: int,
        device: Any,
        matcher: Matcher | None = None,
    ) -> None:
        import torch

        self.config = config
        self.matcher = matcher
        self.generated = 0
        self.bias = _bias_of(config, device)
        self.counts = torch.zeros(vocab_size, device=device) if config.presence_penalty or config.frequency_penalty else None
        self.seen: Tensor | None = None
        if config.repetition_penalty != 1.0:
            self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            known = [number for number in prompt if number < vocab_size]  # what stands for a picture may be beyond it
            self.seen.index_fill_(0, place(known, device, torch.long), True)
        self._stops = place(sorted(config.stop_ids), device, torch.long)
        self._generator = torch.Generator()
        if config.seed is not None:
            self._generator.manual_seed((config.seed + index) & _SEEDS)
        elif not config.greedy:
            self._generator.seed()

    @property
    def finished(self) -> bool:
        return self.matcher is not None and self.matcher.finished

    @property
    def error(self) -> APIError | None:
        return None if self.matcher is None else self.matcher.error

    @property
    def forbidden(self) -> Tensor | None:
        """Tokens that would end the answer before ``min_tokens``; a grammar alone says where an answer may end."""
        early = self.generated < self.config.min_tokens and len(self._stops) and self.matcher is None
        return self._stops if early else None

    def number(self) -> float:
        """The next random number, in (0, 1]."""
        import torch

        return 1.0 - float(torch.rand((), generator=self._generator))

    def accept(self, token: int) -> None:
        self.generated += 1
        if self.counts is not None:
            self.counts.narrow(0, token, 1).add_(1)
        if self.seen is not None:
            self.seen.narrow(0, token, 1).fill_(True)
        if self.matcher is not None:
            self.matcher.accept(token)


def sample(logits: Tensor, batch: Ids[Choices]) -> Tensor:
    """The next token of each row of ``logits`` (float32, ``[rows, vocab]``), or ``BROKEN``: int64, ``[rows]``, on their device.

    Nothing waits for the device. ``logits`` may change; ``settle`` tells ``batch`` what was chosen, before the next call.
    """
    import torch

    sound = torch.isfinite(logits.amax(-1))
    _adjust(logits, batch)
    greedy = [row for row, choices in enumerate(batch) if choices.config.greedy]
    drawn = [row for row, choices in enumerate(batch) if not choices.config.greedy]
    parts = ((rows, pick) for rows, pick in ((greedy, _likeliest), (drawn, _draw)) if rows)
    tokens = _spread([(rows, pick(ranking.only(logits, rows), [batch[row] for row in rows])) for rows, pick in parts])
    tokens = tokens.clamp(max=logits.shape[-1] - 1)
    left = torch.isfinite(logits.gather(1, tokens[:, None])[:, 0])
    return torch.where(sound & left, tokens, BROKEN)


def settle(tokens: Ids[int], batch: Ids[Choices]) -> None:
    """Let each answer's state know its token."""
    for choices, token in zip(batch, tokens, strict=True):
        if token != BROKEN:
            choices.accept(token)


def choose(logits: Tensor, batch: Ids[Choices]) -> list[int]:
    """Both at once, which waits for the device."""
    tokens: list[int] = sample(logits, batch).tolist()
    settle(tokens, batch)
    return tokens


def _adjust(logits: Tensor, batch: Ids[Choices]) -> None:
    _penalise(logits, batch)
    for row, choices in enumerate(batch):
        if choices.bias is not None:
            logits[row].index_add_(0, *choices.bias)
        if (forbidden := choices.forbidden) is not None:
            logits[row].index_fill_(0, forbidden, float("-inf"))
    _constrain(logits, batch)


def _penalise(logits: Tensor, batch: Ids[Choices]) -> None:
    import torch

    rows = [row for row, choices in enumerate(batch) if choices.seen is not None]
    if rows:
        seen = torch.stack([choices.seen for choices in batch if choices.seen is not None])
        penalty = _column([batch[row].config.repetition_penalty for row in rows], logits)
        part = ranking.only(logits, rows)
        part = torch.where(seen, torch.where(part > 0, part / penalty, part * penalty), part)
        logits.index_copy_(0, place(rows, logits.device), part)
    rows = [row for row, choices in enumerate(batch) if choices.counts is not None]
    if rows:
        counts = torch.stack([choices.counts for choices in batch if choices.counts is not None])
        frequency = _column([batch[row].config.frequency_penalty for row in rows], logits)
        presence = _column([batch[row].config.presence_penalty for row in rows], logits)
        logits.index_add_(0, place(rows, logits.device), frequency * counts + presence * (counts > 0), alpha=-1)


def _constrain(logits: Tensor, batch: Ids[Choices]) -> None:
    """Leave only what each row's grammar allows."""
    import torch

    ruled = [(row, choices.matcher) for row, choices in enumerate(batch) if choices.matcher is not None]
    if not ruled:
        return
    words = -(-logits.shape[-1] // _WORD)
    masks = torch.full((len(ruled), words), -1, dtype=torch.int32, pin_memory=logits.device.type == "cuda")
    ruling = [matcher.fill_mask(mask) for mask, (_, matcher) in zip(masks, ruled, strict=True)]
    if any(ruling):
        close = _close_here if logits.device.type == "cpu" else _close_there
        close(logits, [row for row, _ in ruled], masks)


def _close_here(logits: Tensor, rows: list[int], masks: Tensor) -> None:
    """On a processor without torch's threads, which cost more than they gain."""
    import numpy

    bits = numpy.unpackbits(~masks.numpy().view(numpy.uint8), axis=-1, bitorder="little")
    for row, closed in zip(rows, bits[:, : logits.shape[-1]].view(numpy.bool_), strict=True):
        numpy.copyto(logits[row].numpy(), -numpy.inf, where=closed)


def _close_there(logits: Tensor, rows: list[int], masks: Tensor) -> None:
    """The bits go to the device as they are."""
    import torch

    places = torch.arange(_WORD, dtype=torch.int32, device=logits.device)
    bits = masks.to(logits.device, non_blocking=True)[:, :, None] >> places
    closed = ((bits & 1) == 0).flatten(1)[:, : logits.shape[-1]]
    part = ranking.only(logits, rows).masked_fill(closed, float("-inf"))
    logits.index_copy_(0, place(rows, logits.device), part)


def _likeliest(logits: Tensor, batch: Ids[Choices]) -> Tensor:
    return ranking.argmax(logits)


def _draw(logits: Tensor, batch: Ids[Choices]) -> Tensor:
    """One random number a row, looked up in its cumulated probabilities: far cheaper than a number for each token."""
    import torch

    numbers = _column([choices.number() for choices in batch], logits)
    probabilities = torch.softmax(logits / _column([choices.config.temperature for choices in batch], logits), dim=-1)
    ranked = [row for row, choices in enumerate(batch) if choices.config.top_k or choices.config.top_p < 1.0]
    free = sorted(set(range(len(batch))) - set(ranked))
    found = []
    if free:
        part = ranking.only(probabilities, free)
        if any(batch[row].config.min_p for row in free):
            floors = _column([batch[row].config.min_p for row in free], logits)
            part = part * (part >= floors * part.amax(-1, keepdim=True))
        found.append((free, ranking.pick(part, ranking.only(numbers, free))))
    if ranked:
        cuts = _cuts([batch[row].config for row in ranked], logits)
        found.append((ranked, ranking.pick_ranked(ranking.only(probabilities, ranked), ranking.only(numbers, ranked), cuts)))
    return _spread(found)


def _cuts(configs: list[TextConfig], like: Tensor) -> ranking.Cuts:
    return ranking.Cuts(
        top_k=place([config.top_k for config in configs], like.device)[:, None],
        top_p=_column([config.top_p for config in configs], like),
        min_p=_column([config.min_p for config in configs], like),
    )


def _spread(parts: list[tuple[list[int], Tensor]]) -> Tensor:
    """Values of some rows and of the others, as one column in the rows' order."""
    import torch

    if len(parts) == 1:
        return parts[0][1]
    values = torch.cat([values for _, values in parts])
    return torch.empty_like(values).index_copy_(0, place([row for rows, _ in parts for row in rows], values.device), values)


def _column(values: list[float], like: Tensor) -> Tensor:
    import torch

    return place(values, like.device, torch.float32)[:, None]


def _bias_of(config: TextConfig, device: Any) -> tuple[Tensor, Tensor] | None:
    import torch

    if not config.logit_bias:
        return None
    ids = place(list(config.logit_bias), device, torch.long)
    return ids, place(list(config.logit_bias.values()), device, torch.float32)
