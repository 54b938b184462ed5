"""Masks as COCO's run lengths: column by column, how many pixels are off, then on, then off, and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

_BITS, _MORE, _SIGN = 0x1F, 0x20, 0x10
_FIRST = 48  # the letter for nought


def stretched(mask: Array, width: int, height: int) -> Array:
    """The mask at another size, each pixel the nearest of the old ones."""
    import numpy as np

    rows, columns = mask.shape
    if (columns, rows) == (width, height):
        return mask
    found: Array = mask[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
    return found


def run_lengths(mask: Array) -> Array:
    """The lengths of the runs, the first of them of pixels that are off."""
    import numpy as np

    flat = (mask.T != 0).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0] if flat[0] else [], [0], changes, [flat.size]))
    return np.diff(edges).astype(np.int64)


def compressed(counts: Array) -> str:
    """As ``pycocotools`` writes them: each as its difference to the one before the last, five bits a letter, low ones first."""
    import numpy as np

    left = counts.copy()
    left[3:] -= counts[1:-2]
    letters = np.zeros((left.size, 8), dtype=np.uint8)
    going = np.ones(left.size, dtype=bool)
    for place in range(letters.shape[1]):
        low = left & _BITS
        left >>= 5
        more = np.where(low & _SIGN, left != -1, left != 0)
        letters[going, place] = (low + more * _MORE + _FIRST)[going]
        going &= more
    return bytes(letters[letters != 0]).decode("ascii")
