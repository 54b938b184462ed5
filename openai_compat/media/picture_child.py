"""What the process for pictures does: a stranger's picture → its size and pixels."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from openai_compat.media.pipe import PIECE, UNREADABLE, Refused

if TYPE_CHECKING:
    from PIL.Image import Image

TOO_LARGE = "too large"
TOO_LONG = "too long"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_ORIENTATION = 0x0112
_SIDEWAYS = range(5, 9)
_JPEG_FACTORS = (2, 4, 8)
_WIDE_GREY = 1 / 256


class PictureTask(Struct, frozen=True):
    """``pixels`` may come, about ``kept`` of them leave; ``ratio`` is the longer side's to the shorter, ``alpha`` keeps it."""

    format: str
    pixels: int
    kept: int
    ratio: int
    alpha: bool


class Shape(Struct, frozen=True):
    """The first piece; all others are pixels. The full size is the one that was sent, upright."""

    width: int
    height: int
    channels: int
    full_width: int
    full_height: int


def warm_up() -> None:
    from PIL import Image, MpoImagePlugin, TiffImagePlugin  # noqa: F401 -- what JPEG and EXIF data would import later

    warnings.simplefilter("ignore")
    for format in FORMATS:
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, format)
        task = PictureTask(format=format, pixels=64, kept=32, ratio=2, alpha=False)
        sum(len(piece) for piece in _pieces(file.getvalue(), task))


def decode(data: bytes, task: msgspec.Raw) -> Iterator[bytes]:
    """The shape, then the pixels in pieces of about ``PIECE`` bytes."""
    return _pieces(data, msgspec.msgpack.decode(task, type=PictureTask))


def _pieces(data: bytes, task: PictureTask) -> Iterator[bytes]:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = task.pixels // 2  # the library refuses twice as many, wherever a file hides a size
    if task.format == "WEBP":
        _check_size(*_size_of_webp(data), task)
    try:
        with Image.open(io.BytesIO(data), formats=(task.format,)) as image:
            yield from _taken(image, task)
    except Image.DecompressionBombError:
        raise Refused(TOO_LARGE) from None


def _taken(opened: Image, task: PictureTask) -> Iterator[bytes]:
    _check_size(*opened.size, task)
    full, turn = opened.size, _orientation(opened)
    image = _upright(_reduced(opened, task), turn)
    full = full[::-1] if turn in _SIDEWAYS else full
    yield msgspec.msgpack.encode(Shape(*image.size, len(image.getbands()), *full))
    rows = max(1, PIECE // (image.width * len(image.getbands())))
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows))).tobytes()


def _check_size(width: int, height: int, task: PictureTask) -> None:
    if width * height > task.pixels:
        raise Refused(TOO_LARGE)
    if max(width, height) > task.ratio * min(width, height):
        raise Refused(TOO_LONG)


def _size_of_webp(data: bytes) -> tuple[int, int]:
    """By the header alone: the library makes room for the whole picture before it tells its size."""
    head = data[:30].ljust(30, b"\0")
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[12:16] == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    raise Refused(UNREADABLE)


def _orientation(image: Image) -> int:
    """1, upright, where the file does not say, or says it in a way that cannot be read."""
    with suppress(Exception):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _reduced(image: Image, task: PictureTask) -> Image:
    """In 8 bits a channel, RGB or RGBA, and by a whole factor smaller where it is large; a JPEG is decoded smaller at once."""
    factor = math.ceil(math.sqrt(image.width * image.height / task.kept))
    if task.format == "JPEG" and factor in _JPEG_FACTORS:
        image.draft(None, (image.width // factor, image.height // factor))
        factor = 1
    plain = _eight_bits(image, alpha=task.alpha)
    return plain.reduce(factor) if factor > 1 else plain


def _eight_bits(image: Image, *, alpha: bool) -> Image:
    """Grey of 16 bits is scaled; Pillow itself would cut it, so that all but black becomes white."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value * _WIDE_GREY).convert("L").convert("RGB")
    image.load()
    return image.convert("RGBA" if alpha and image.has_transparency_data else "RGB")


def _upright(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image
