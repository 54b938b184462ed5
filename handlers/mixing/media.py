"""Pictures and sounds as the library's processors take them, and the marks that stand for them in a text meanwhile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from handlers import types as t
from handlers.pixels import to_pil

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

MARK_OPEN, MARK_CLOSE = "\ue010", "\ue011"
MARK = re.compile(f"{MARK_OPEN}(image|audio){MARK_CLOSE}")
_LOUDEST = 32768.0
_WHITE = (255, 255, 255)
_CLOSELY: Mapping[str, Mapping[str, Any]] = {
    "low": {"do_image_splitting": False, "crop_to_patches": False, "do_pan_and_scan": False},
    "high": {"do_image_splitting": True, "crop_to_patches": True, "do_pan_and_scan": True},
}


class Media(Struct, frozen=True, kw_only=True):
    """The pictures and sounds of a conversation, each in its order."""

    pictures: tuple[t.ImagePart, ...] = ()
    sounds: tuple[t.AudioPart, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pictures or self.sounds)


def taken_out(messages: tuple[t.Message, ...]) -> tuple[tuple[t.Message, ...], Media]:
    """The conversation with a mark in place of each picture and sound, and these."""
    parts = [part for message in messages for part in message.parts]
    media = Media(
        pictures=tuple(part for part in parts if isinstance(part, t.ImagePart)),
        sounds=tuple(part for part in parts if isinstance(part, t.AudioPart)),
    )
    return tuple(replace(message, parts=tuple(map(_marked, message.parts))) for message in messages), media


def mark(medium: str) -> str:
    return f"{MARK_OPEN}{medium}{MARK_CLOSE}"


def to_image(picture: t.Picture) -> Image:
    """In RGB; what is transparent lies on white, as a page would show it."""
    from PIL import Image

    image = to_pil(picture)
    if image.mode != "RGBA":
        return image.convert("RGB")
    page = Image.new("RGB", image.size, _WHITE)
    page.paste(image, mask=image.getchannel("A"))
    return page


def to_samples(sound: t.Sound) -> numpy.ndarray[Any, Any]:
    """Float32 between -1 and 1, one channel."""
    import numpy

    return numpy.frombuffer(sound.pcm, dtype="<i2").astype(numpy.float32) / _LOUDEST


def closeness(image_processor: Any, pictures: tuple[t.ImagePart, ...]) -> dict[str, Any]:
    """What ``detail`` sets of a processor that can cut a picture into tiles; all pictures have to agree."""
    details = {part.detail for part in pictures}
    wished = _CLOSELY.get(details.pop(), {}) if len(details) == 1 else {}
    return {name: value for name, value in wished.items() if hasattr(image_processor, name)}


def _marked(part: t.Part) -> t.TextPart:
    if isinstance(part, t.TextPart):
        return t.TextPart(text=part.text.replace(MARK_OPEN, "\ufffd").replace(MARK_CLOSE, "\ufffd"))
    return t.TextPart(text=mark("image" if isinstance(part, t.ImagePart) else "audio"))
