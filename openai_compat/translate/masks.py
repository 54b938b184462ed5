"""What of a picture may change: OpenAI's masks are transparent there, ours have one channel that is 255 there."""

from __future__ import annotations

from msgspec.structs import replace

from handlers.types import Picture
from openai_compat.errors import InvalidRequest

_INVERTED = bytes(range(255, -1, -1))


def mask_of(mask: Picture, picture: Picture, param: str) -> Picture:
    """Raises ``InvalidRequest`` naming ``param`` unless it has the picture's size, and something transparent in it."""
    if mask.full_size != picture.full_size:
        sizes = " and ".join(f"{width}x{height}" for width, height in (mask.full_size, picture.full_size))
        raise InvalidRequest(f"The mask must have the picture's size; they have {sizes}.", param=param)
    found = erased(mask)
    if found is None:
        raise InvalidRequest("Nothing in the mask is transparent; transparent is what may change.", param=param)
    return found


def erased(picture: Picture) -> Picture | None:
    """Where a picture is transparent; None where it is so nowhere."""
    if picture.channels != 4:
        return None
    pixels = picture.pixels[3::4].translate(_INVERTED)
    return replace(picture, pixels=pixels, channels=1) if pixels.strip(b"\0") else None


def without_alpha(picture: Picture) -> Picture:
    if picture.channels != 4:
        return picture
    pixels = bytearray(3 * picture.width * picture.height)
    for channel in range(3):
        pixels[channel::3] = picture.pixels[channel::4]
    return replace(picture, pixels=bytes(pixels), channels=3)
