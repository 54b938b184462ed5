"""Attention of packed sequences over the paged cache, as a function of transformers' attention interface.

A step's tokens of all sequences stand in one row: decodes first, then chunks of prompts. The function is told by the keyword
argument ``paged`` where each sequence's keys and values are; a model that drops the argument on the way fails loudly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from handlers.decoding.cache import KeyValueCache

if TYPE_CHECKING:
    from torch import Tensor

NAME = "paged_blocks"


class Softmax(Struct, frozen=True):
    """What a layer asks for beside the plain product: ``sinks`` has one logit a head that takes attention away."""

    scale: float
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        return self.softcap is None and self.sinks is None


class Layout(Struct, frozen=True):
    """A step as four rows of numbers, for attention in one native call.

    For each token ``slots`` has its place in the cache, ``lengths`` how many tokens it sees, ``begins`` where its sequence's
    blocks begin in ``tables``.
    """

    slots: Tensor
    lengths: Tensor
    begins: Tensor
    tables: Tensor


class Sight(Struct, frozen=True):
    """What a layer sees of some sequences: ``blocks`` one after the other, and which of their tokens count."""

    blocks: Tensor
    mask: Tensor


class Decodes:
    """Sequences with one new token each: the tokens ``start`` to ``stop`` of the row.

    Args:
        table: block table, ``[sequences, blocks]``, padded with block 0.
        lengths: tokens of each sequence, the new one included.
    """

    def __init__(self, start: int, stop: int, table: Tensor, lengths: Tensor, block_size: int) -> None:
        self.start = start
        self.stop = stop
        self.blocks = table.flatten()
        self.lengths = lengths
        self._table = table
        self._block_size = block_size
        self._sights: dict[int | None, Sight] = {}

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, window: int | None, softmax: Softmax) -> Tensor:
        """``query`` is ``[heads, sequences, size]``; ``[sequences, heads, size]`` comes back."""
        heads, count, size = query.shape
        groups = heads // keys.shape[2]
        grouped = query.transpose(0, 1).reshape(count, keys.shape[2], groups, size)
        if window not in self._sights:
            self._sights[window] = self._look(window)
        sight = self._sights[window]
        found = _attend(grouped, self._gather(keys, sight), self._gather(values, sight), sight.mask, softmax)
        return found.reshape(count, heads, -1)

    def _gather(self, store: Tensor, sight: Sight) -> Tensor:
        """``[sequences, heads, tokens, size]``"""
        rows = store.index_select(0, sight.blocks)
        return rows.view(self.stop - self.start, -1, *store.shape[2:]).transpose(1, 2)

    def _look(self, window: int | None) -> Sight:
        """Where a layer sees only a window, the blocks before it are left out."""
        import torch

        width = self._table.shape[1]
        lengths, size = self.lengths[:, None], self._block_size
        seen = width if window is None else min(width, -(-window // size) + 1)
        first = torch.zeros_like(lengths) if window is None else (lengths - window).clamp(min=0) // size
        columns = first + torch.arange(seen, device=lengths.device)
        places = (columns[:, :, None] * size + torch.arange(size, device=lengths.device)).flatten(1)
        mask = places < lengths
        if window is not None:
            mask &= places >= lengths - window
        return Sight(self._table.gather(1, columns.clamp(max=width - 1)).flatten(), mask[:, None, None])


class Prefill:
    """A chunk of one prompt: the tokens ``start`` to ``stop`` of the row, behind ``context`` tokens that are in the cache."""

    def __init__(self, start: int, stop: int, table: Tensor, context: int) -> None:
        self.start = start
        self.stop = stop
        self.table = table
        self.context = context
        self._masks: dict[int | None, Tensor] = {}

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, window: int | None, softmax: Softmax
    ) -> Tensor:
        """``query``, ``key`` and ``value`` are ``[heads, tokens, size]``; ``[tokens, heads, size]`` comes back."""
        if self.context:
            key, value = self._gather(keys), self._gather(values)
        groups = query.shape[0] // key.shape[0]
        mask = self._mask(window, query)
        found = _attend(query[None], _repeat(key[None], groups), _repeat(value[None], groups), mask, softmax)
        return found[0].transpose(0, 1)

    def _gather(self, store: Tensor) -> Tensor:
        rows = store.index_select(0, self.table).flatten(0, 1)
        return rows[: self.context + self.stop - self.start].transpose(0, 1)

    def _mask(self, window: int | None, like: Tensor) -> Tensor:
        import torch

        if window not in self._masks:
            last = self.context + self.stop - self.start
            own = torch.arange(self.context, last, device=like.device)[:, None]
            places = torch.arange(last, device=like.device)
            mask = places <= own
            if window is not None:
                mask &= places > own - window
            self._masks[window] = mask
        return self._masks[window]


class Attending(Protocol):
    """One step's layout, and the cache it reads and writes."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, softmax: Softmax) -> Tensor:
        """``query``, ``key`` and ``value`` are ``[heads, tokens, size]``; ``[tokens, heads, size]`` comes back."""


class Paged:
    """One step's layout, and the cache it reads and writes.

    Args:
        slots: for each token of the row the place in the cache where its key and value go: block times block size plus offset.
    """

    def __init__(self, cache: KeyValueCache, slots: Tensor, decodes: list[Decodes], prefills: list[Prefill]) -> None:
        self.cache = cache
        self._slots = slots
        self._decodes = decodes
        self._prefills = prefills
        self.layers: list[int] = []

    def layout(self) -> Layout:
        import torch

        lengths, begins, tables = [], [], []
        base = 0
        for group in self._decodes:
            count = group.stop - group.start
            lengths.append(group.lengths)
            begins.append(torch.arange(count) * (len(group.blocks) // count) + base)
            tables.append(group.blocks)
            base += len(group.blocks)
        for chunk in self._prefills:
            count = chunk.stop - chunk.start
            lengths.append(torch.arange(chunk.context + 1, chunk.context + count + 1))
            begins.append(torch.full((count,), base))
            tables.append(chunk.table)
            base += len(chunk.table)
        return Layout(self._slots, _joined(lengths), _joined(begins), _joined(tables))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, softmax: Softmax) -> Tensor:
        """``query``, ``key`` and ``value`` are ``[heads, tokens, size]``; ``[tokens, heads, size]`` comes back."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        self.cache.write(layer, self._slots, key, value)
        self.layers.append(layer)
        parts = [part.attend(query[:, part.start : part.stop], keys, values, window, softmax) for part in self._decodes]
        for chunk in self._prefills:
            own = slice(chunk.start, chunk.stop)
            parts.append(chunk.attend(query[:, own], key[:, own], value[:, own], keys, values, window, softmax))
        return _joined(parts)


def paged_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any = None,
    *,
    paged: Attending | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each attention layer, with tensors of shape ``[1, heads, tokens, size]``."""
    if paged is None:
        raise ValueError("This model does not hand the block table to its attention layers.")
    softmax = Softmax(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, s_aux)
    found = paged.attend(module.layer_idx, query[0], key[0], value[0], sliding_window, softmax)
    return found[None], None


def register() -> None:
    """Make the function known to transformers. It is never given a mask: the layout says who sees whom."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, paged_attention)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, softmax: Softmax) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    if softmax.is_plain:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=softmax.scale)
    return _attend_slowly(query, key, value, mask, softmax)


def _attend_slowly(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, softmax: Softmax) -> Tensor:
    import torch

    scores = (query @ key.transpose(-1, -2)).float() * softmax.scale
    if softmax.softcap is not None:
        scores = torch.tanh(scores / softmax.softcap) * softmax.softcap
    scores = scores.masked_fill(~mask, float("-inf"))
    if softmax.sinks is not None:
        sinks = softmax.sinks.float().view(1, *_head_shape(query), 1).expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1)
    return weights.to(value.dtype) @ value


def _head_shape(query: Tensor) -> tuple[int, int]:
    """Decodes stand as ``[sequences, key heads, heads of each, size]``, prompts as ``[1, heads, tokens, size]``."""
    return query.shape[1], -1


def _repeat(store: Tensor, groups: int) -> Tensor:
    return store if groups == 1 else store.repeat_interleave(groups, dim=1)


def _joined(parts: list[Tensor]) -> Tensor:
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts)
