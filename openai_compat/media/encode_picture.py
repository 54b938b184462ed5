"""Pictures of our own models → the bytes of a file, with nothing in it but the picture."""

from __future__ import annotations

import io
from typing import Literal, TypeAlias

from handlers.types import Picture

PictureFormat: TypeAlias = Literal["png", "webp", "jpeg"]
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_QUALITY = 95
_PNG_EFFORT = 4


def encode_picture(picture: Picture, format: PictureFormat = "png", quality: int | None = None) -> bytes:
    """``quality``, 0 to 100, is for formats with loss. A second for 40 million pixels or more: keep it off the event loop."""
    from PIL import Image

    image = Image.frombytes(_MODES[picture.channels], (picture.width, picture.height), picture.pixels)
    file = io.BytesIO()
    if format == "png":
        image.save(file, "PNG", compress_level=_PNG_EFFORT)
    else:
        plain = image.convert("RGB") if image.mode == "RGBA" and format == "jpeg" else image
        plain.save(file, format.upper(), quality=_QUALITY if quality is None else max(1, quality))
    return file.getvalue()
