"""What stands at some places of a prompt in its tokens' stead: what a picture or a sound was turned into."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_BYTES = 16


class Embedded:
    """Rows for the model's first layer.

    Args:
        places: ascending, in tokens of the prompt.
        rows: ``[places, size]``, one for each of them.
    """

    def __init__(self, places: list[int], rows: Tensor) -> None:
        self.places = places
        self.rows = rows

    def between(self, start: int, stop: int) -> range:
        """Which of its rows stand at the tokens from ``start`` to ``stop``."""
        return range(bisect_left(self.places, start), bisect_left(self.places, stop))

    def put(self, hidden: Tensor, start: int) -> None:
        """Into ``hidden`` (``[tokens, size]``), the first layer's input for the tokens from ``start`` on."""
        own = self.between(start, start + len(hidden))
        if own:
            hidden[[place - start for place in self.places[own.start : own.stop]]] = self.rows[own.start : own.stop]

    def digest(self, start: int, stop: int) -> bytes:
        """Tells apart what the same tokens may stand for; empty where there is nothing but tokens."""
        import torch

        own = self.between(start, stop)
        if not own:
            return b""
        where = array("q", [place - start for place in self.places[own.start : own.stop]]).tobytes()
        rows = self.rows[own.start : own.stop].contiguous().cpu()
        return blake2b(where + rows.view(torch.uint8).numpy().tobytes(), digest_size=_BYTES).digest()
