"""Decoding pictures: four formats, told by their content, within limits that hold before anything is decoded."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openai_compat.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_PIXELS = 40_000_000
MAX_RATIO = 200
"""Of the longer side to the shorter: a model's processor that brings the shorter side to its size makes the longer one huge."""
_WIDE_GREY = 1 / 256
# whatever a decoder meets in a broken file
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)


def decode_image(data: bytes, *, param: str, max_pixels: int = MAX_PIXELS) -> Image:
    """The picture in RGB, upright; of an animation the first. Raises ``InvalidRequest`` naming ``param``, in our own words."""
    from PIL import ImageOps

    with _opened(data, param, max_pixels) as image:
        return _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")


def picture_pixels(data: bytes, *, param: str, max_pixels: int = MAX_PIXELS) -> int:
    """How many pixels the header says that there are; decodes none. Raises as ``decode_image`` does."""
    with _opened(data, param, max_pixels) as image:
        return image.width * image.height


@contextmanager
def _opened(data: bytes, param: str, max_pixels: int) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.width, image.height, param, max_pixels)
            yield image
    except Image.DecompressionBombError as error:
        raise _invalid(f"The picture has more than {max_pixels} pixels.", param) from error
    except _BROKEN as error:
        raise _invalid("The picture cannot be read; PNG, JPEG, WebP and GIF are.", param) from error


def _check_size(width: int, height: int, param: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _invalid(f"The picture has more than {max_pixels} pixels.", param)
    if max(width, height) > MAX_RATIO * min(width, height):
        raise _invalid(f"One side of the picture is more than {MAX_RATIO} times as long as the other.", param)


def _eight_bits(image: Image) -> Image:
    """Grey of 16 bits, scaled; Pillow itself would cut it, so that all but black becomes white."""
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value * _WIDE_GREY).convert("L")


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param)
