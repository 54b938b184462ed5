"""Boxes and masks between the domain and the libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers.types import Box, Picture

if TYPE_CHECKING:
    import numpy as np


def clipped(box: list[float], picture: Picture) -> Box:
    """Kept within the picture that was sent."""
    width, height = picture.full_size
    left, top, right, bottom = box
    return _within(left, width), _within(top, height), _within(right, width), _within(bottom, height)


def mask_and_box(where: Any, picture: Picture) -> tuple[Picture, Box] | None:
    """The mask of a boolean array, and the box around it in pixels of the picture that was sent; None for an empty one."""
    import numpy as np

    array: np.ndarray[Any, Any] = np.asarray(where, dtype=bool)
    rows, columns = np.flatnonzero(array.any(1)), np.flatnonzero(array.any(0))
    if not rows.size:
        return None
    height, width = array.shape
    full_width, full_height = picture.full_size
    across, down = full_width / width, full_height / height
    box = (columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down)
    pixels = (array.astype(np.uint8) * 255).tobytes()
    mask = Picture(width=width, height=height, pixels=pixels, channels=1, full_width=full_width, full_height=full_height)
    return mask, clipped([float(edge) for edge in box], picture)


def _within(edge: float, most: int) -> float:
    return min(max(edge, 0.0), float(most))
