"""Where a step's sequences are, as attention is told: gathered by torch, or read by flash attention where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from handlers.decoding.attention import Attending, Decodes, Paged, Prefill
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.flash import Extents, Flash, Flavour, extents
from handlers.decoding.scheduler import Chunk
from handlers.decoding.transfer import place

if TYPE_CHECKING:
    from torch import Tensor

_WASTE = 2.0
_FEW_BLOCKS = 8
_PADDED = 1 << 16
"""Tokens that may be gathered for decodes which are all padded to the same width: 256 MB a layer of many a model."""


class Layouts(Protocol):
    """Makes one step's layout."""

    def of(self, work: list[Chunk]) -> Attending:
        """Of chunks that stand in the row in this order: single tokens first, by length."""

    def of_decodes(self, slots: Tensor, lengths: Tensor, table: Tensor) -> Attending:
        """Of one token for each sequence, from numbers that are on the device.

        Args:
            slots: each token's place in the cache, int64, ``[sequences]``.
            lengths: tokens of each sequence, the new one included, int64.
            table: block table, int32, ``[sequences, blocks]``, padded with block 0.
        """

    def width(self, sequences: int, blocks: int) -> int | None:
        """Of a table that is recorded for so many sequences, of which one has so many ``blocks``; None: none shall be."""


class Gathered:
    """Keys and values are gathered block by block for torch's attention, which does not know block tables."""

    def __init__(self, cache: KeyValueCache, device: Any) -> None:
        self._cache = cache
        self._device = device

    def of(self, work: list[Chunk]) -> Paged:
        singles = [chunk for chunk in work if chunk.count == 1]
        prefills = [
            Prefill(stop - chunk.count, stop, place(chunk.sequence.blocks, self._device), chunk.start)
            for chunk, stop in zip(work, stops(work), strict=True)
            if chunk.count > 1
        ]
        return Paged(self._cache, slots(work, self._cache, self._device), self._decodes(singles), prefills)

    def of_decodes(self, slots: Tensor, lengths: Tensor, table: Tensor) -> Paged:
        return Paged(self._cache, slots, [Decodes(0, len(lengths), table.long(), lengths, self._cache.block_size)], [])

    def width(self, sequences: int, blocks: int) -> int | None:
        """All is gathered that stands in it, padding too."""
        width = 1 << (blocks - 1).bit_length()
        return width if sequences * width * self._cache.block_size <= _PADDED else None

    def _decodes(self, chunks: list[Chunk]) -> list[Decodes]:
        """Sequences of like length together, since each group is padded to its longest."""
        groups: list[Decodes] = []
        start = 0
        while start < len(chunks):
            shortest = self._blocks(chunks[start])
            stop = start + 1
            while stop < len(chunks) and self._blocks(chunks[stop]) <= shortest * _WASTE + _FEW_BLOCKS:
                stop += 1
            groups.append(self._group(chunks[start:stop], start))
            start = stop
        return groups

    def _group(self, chunks: list[Chunk], start: int) -> Decodes:
        width = max(map(self._blocks, chunks))
        table = [(chunk.sequence.blocks + [0] * width)[:width] for chunk in chunks]
        lengths = place([chunk.stop for chunk in chunks], self._device)
        return Decodes(start, start + len(chunks), place(table, self._device), lengths, self._cache.block_size)

    def _blocks(self, chunk: Chunk) -> int:
        return -(-chunk.stop // self._cache.block_size)


class Flashed:
    """Keys and values stay where they are. The cache's blocks must have a size that the kernels know.

    Args:
        most: blocks of the longest sequence.
    """

    def __init__(self, cache: KeyValueCache, device: Any, flavour: Flavour, most: int) -> None:
        self._cache = cache
        self._device = device
        self._flavour = flavour
        self._most = most

    def of(self, work: list[Chunk]) -> Flash:
        counts = [chunk.count for chunk in work]
        blocks = [chunk.sequence.blocks for chunk in work]
        where = extents(counts, [chunk.stop for chunk in work], blocks, self._device)
        return Flash(self._cache, slots(work, self._cache, self._device), where, self._flavour)

    def of_decodes(self, slots: Tensor, lengths: Tensor, table: Tensor) -> Flash:
        import torch

        begins = torch.arange(len(lengths) + 1, dtype=torch.int32, device=lengths.device)
        return Flash(self._cache, slots, Extents(begins, lengths.int(), table, longest=1), self._flavour)

    def width(self, sequences: int, blocks: int) -> int:
        """Padding is not read, so that one will do for all."""
        return self._most


def slots(work: Iterable[Chunk], cache: KeyValueCache, device: Any) -> Tensor:
    """For each token of the row its place in the cache: block times block size plus offset."""
    size = cache.block_size
    found = [chunk.sequence.blocks[at // size] * size + at % size for chunk in work for at in range(chunk.start, chunk.stop)]
    return place(found, device)


def stops(work: list[Chunk]) -> list[int]:
    """Where each chunk ends in the row."""
    return list(accumulate(chunk.count for chunk in work))
