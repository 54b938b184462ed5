"""The paged key/value cache: who has which block, which blocks hold a prefix that can be used again, and the memory itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

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
        self._forget(block)
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
            self._forget(block)
            self._blocks[name] = block
            self._names[block] = name

    def find(self, name: bytes) -> int | None:
        return self._blocks.get(name)

    def is_free(self, block: int) -> bool:
        return block in self._free

    def _forget(self, block: int) -> None:
        name = self._names.pop(block, None)
        if name is not None:
            del self._blocks[name]


class LayerShape(Struct, frozen=True):
    """What one attention layer keeps of a token."""

    heads: int
    key_size: int
    value_size: int


class KeyValueCache:
    """The blocks' memory, by layer: ``[blocks + 1, block_size, heads, size]``, for keys and values each."""

    def __init__(self, shapes: dict[int, LayerShape], *, blocks: int, block_size: int, dtype: Any, device: Any) -> None:
        import torch

        self.block_size = block_size
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        for layer, shape in shapes.items():
            size = (blocks + 1, block_size, shape.heads)
            self.keys[layer] = torch.zeros(*size, shape.key_size, dtype=dtype, device=device)
            self.values[layer] = torch.zeros(*size, shape.value_size, dtype=dtype, device=device)

    def copy(self, source: int, target: int) -> None:
        for store in (*self.keys.values(), *self.values.values()):
            store[target] = store[source]

    def clear(self, blocks: Iterable[int]) -> None:
        """Numbers that are none (a model that overflowed) must not reach the blocks' next holder."""
        for block in blocks:
            for store in (*self.keys.values(), *self.values.values()):
                store[block] = 0


def bytes_per_token(shapes: dict[int, LayerShape], item_size: int) -> int:
    return item_size * sum(shape.heads * (shape.key_size + shape.value_size) for shape in shapes.values())
