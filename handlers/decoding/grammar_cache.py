"""What was built is kept, the longest unused given up first, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class ByteCache(Generic[ValueT]):
    """Values with their sizes in bytes. A value that is larger than the whole is not kept."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[Hashable, tuple[ValueT, int]] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> ValueT | None:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: Hashable, value: ValueT, size: int) -> None:
        self.drop(key)
        if size > self._capacity:
            return
        self._held[key] = value, size
        self.size += size
        while self.size > self._capacity:
            self.size -= self._held.popitem(last=False)[1][1]

    def drop(self, key: Hashable) -> None:
        if key in self._held:
            self.size -= self._held.pop(key)[1]
