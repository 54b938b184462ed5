"""Decoded pictures of requests and answers, and the library's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers import types as t

if TYPE_CHECKING:
    from PIL.Image import Image

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def image_of(picture: t.Picture) -> Image:
    from PIL import Image

    return Image.frombytes(_MODES[picture.channels], (picture.width, picture.height), picture.pixels)


def picture_of(image: Image) -> t.Picture:
    if image.mode not in _CHANNELS:
        image = image.convert("RGB")
    channels = _CHANNELS[image.mode]
    return t.Picture(width=image.width, height=image.height, pixels=image.tobytes(), channels=channels)  # type: ignore[arg-type]


def resized(image: Image, size: tuple[int, int], *, sharp: bool = False) -> Image:
    """``sharp`` keeps a mask's edge an edge."""
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)


def pasted(made: Image, original: Image, mask: Image) -> Image:
    """What was made where ``mask`` is white, and the original's own pixels elsewhere; all have one size."""
    from PIL import Image

    return Image.composite(made, original.convert(made.mode), mask.point(lambda level: 255 if level >= 128 else 0))
