"""Pictures of the domain ⇄ those of Pillow, which the libraries' processors and pipelines work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from handlers.types import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

_CHANNELS: dict[str, Literal[1, 3, 4]] = {"L": 1, "RGB": 3, "RGBA": 4}
_MODES = {channels: mode for mode, channels in _CHANNELS.items()}


def to_pil(picture: Picture) -> Image:
    """The same pixels; in RGB, RGBA or L, by their channels."""
    from PIL import Image

    return Image.frombytes(_MODES[picture.channels], (picture.width, picture.height), picture.pixels)


def from_pil(image: Image) -> Picture:
    """The same pixels; a mode of other than these three becomes RGB."""
    plain = image if image.mode in _CHANNELS else image.convert("RGB")
    return Picture(width=plain.width, height=plain.height, pixels=plain.tobytes(), channels=_CHANNELS[plain.mode])
