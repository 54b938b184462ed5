"""The paged key/value cache: who has which block, which blocks hold a prefix that can be used again, and the memory itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers.decoding.transfer import place

if TYPE_CHECKING:
    from torch import Tensor


class BlockPool:
    """Accounts for ``size`` blocks, numbered from 1: block 0 is empty for ever and stands where a table has no block.

    A block that nobody holds is free. It keeps its name and contents until it is given out again, the longest unused first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._references = [0] * (size + 1)
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, size + 1))
        self._names: dict[int, bytes] = {}
        self._blocks: dict[bytes, int] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    def references(self, block: int) -> int:
        return self._references[block]

    def take(self) -> int | None:
        """A block for new contents, None where all are in use."""
        if not self._free:
            return None
        block, _ = self._free.popitem(last=False)
        self.forget((block,))
        self._references[block] = 1
        return block

    def share(self, blocks: Iterable[int]) -> None:
        """One more holder for each."""
        for block in blocks:
            self._free.pop(block, None)
            self._references[block] += 1

    def release(self, blocks: list[int]) -> None:
        """One holder less for each. A sequence's last ones are given out again first: its beginning is the likelier prefix."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None

    def name(self, block: int, name: bytes) -> None:
        """Let a full block be found by its name; the first block of a name keeps it."""
        if name not in self._blocks:
            self.forget((block,))
            self._blocks[name] = block
            self._names[block] = name

    def find(self, name: bytes) -> int | None:
        return self._blocks.get(name)

    def is_free(self, block: int) -> bool:
        return block in self._free

    def forget(self, blocks: Iterable[int]) -> None:
        """Let them be found by no name any more."""
        for block in blocks:
            name = self._names.pop(block, None)
            if name is not None:
                del self._blocks[name]

    def forget_names(self, names: Iterable[bytes]) -> None:
        """Let no block be found by these any more, whoever holds it."""
        self.forget([self._blocks[name] for name in names if name in self._blocks])


class LayerShape(Struct, frozen=True):
    """What one attention layer keeps of a token."""

    heads: int
    key_size: int
    value_size: int


class KeyValueCache:
    """The blocks' memory, by layer: ``[blocks + 1, block_size, heads, size]``, for keys and values each.

    Layers of one shape stand in one piece of memory, so that a block is emptied in all of them at once.
    """

    def __init__(self, shapes: dict[int, LayerShape], *, blocks: int, block_size: int, dtype: Any, device: Any) -> None:
        import torch

        self.block_size = block_size
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self._pieces: list[Tensor] = []
        for (heads, size), places in _alike(shapes, self.keys, self.values).items():
            piece = torch.zeros(len(places), blocks + 1, block_size, heads, size, dtype=dtype, device=device)
            self._pieces.append(piece)
            for store, (of, layer) in zip(piece, places, strict=True):
                of[layer] = store

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """``key`` and ``value`` are ``[heads, tokens, size]``. A slot is a block times the block size plus an offset."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, key.transpose(0, 1))
        self.values[layer].flatten(0, 1).index_copy_(0, slots, value.transpose(0, 1))

    def copy(self, source: int, target: int) -> None:
        for piece in self._pieces:
            piece[:, target] = piece[:, source]

    def clear(self, blocks: Iterable[int]) -> None:
        """What was in them must not reach their next holder: a mask gives it no weight, and no weight times NaN is NaN."""
        numbers = list(blocks)
        if numbers and self._pieces:
            index = place(numbers, self._pieces[0].device)
            for piece in self._pieces:
                piece.index_fill_(1, index, 0)


def _alike(
    shapes: dict[int, LayerShape], keys: dict[int, Tensor], values: dict[int, Tensor]
) -> dict[tuple[int, int], list[tuple[dict[int, Tensor], int]]]:
    """Where stores go, by their heads and size."""
    places: dict[tuple[int, int], list[tuple[dict[int, Tensor], int]]] = {}
    for layer, shape in shapes.items():
        places.setdefault((shape.heads, shape.key_size), []).append((keys, layer))
        places.setdefault((shape.heads, shape.value_size), []).append((values, layer))
    return places


def bytes_per_token(shapes: dict[int, LayerShape], item_size: int) -> int:
    return item_size * sum(shape.heads * (shape.key_size + shape.value_size) for shape in shapes.values())
