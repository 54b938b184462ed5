"""Pictures brought to a size, and put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def resized(image: Image, size: tuple[int, int], *, sharp: bool = False) -> Image:
    """``sharp`` keeps a mask's edge an edge."""
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)


def pasted(made: Image, original: Image, mask: Image) -> Image:
    """What was made where ``mask`` is white, and the original's own pixels elsewhere; all have one size."""
    from PIL import Image

    return Image.composite(made, original.convert(made.mode), mask.point(lambda level: 255 if level >= 128 else 0))
