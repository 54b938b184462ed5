"""Models with a side for texts and a side for pictures, whose vectors can be compared: CLIP and SigLIP."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from handlers.encoding.batcher import Item
from handlers.encoding.encoder import padded, rows
from handlers.encoding.pooling import normalize
from handlers.encoding.texts import Tokens
from openai_compat.errors import APIError, InvalidRequest
from openai_compat.media.images import decode_image, picture_pixels

LANE = "image"
PARAM = "input"
PIXELS_PER_TOKEN = 20_000
"""How many pixels are decoded in the time that one token takes, roughly, so that large pictures run alone."""


class PictureReader:
    """Encoded pictures → what the image side runs on.

    A picture is decoded only in its batch: others have their turns between large ones, and one alone is in memory whole.
    """

    def __init__(self, processor: Any, *, patches: int) -> None:
        self._processor = processor
        self._patches = patches

    def items(self, images: Sequence[bytes]) -> list[Item]:
        """Raises ``InvalidRequest`` for what is no picture by its header."""
        pixels = [picture_pixels(data, param=PARAM) for data in images]
        lengths = [self._patches + count // PIXELS_PER_TOKEN for count in pixels]
        return [Item(lane=LANE, length=length, inputs=data) for length, data in zip(lengths, images, strict=True)]

    def read(self, data: bytes) -> Any:
        """What the image side takes of it, or the ``InvalidRequest`` that it deserves."""
        try:
            picture = decode_image(data, param=PARAM)
        except InvalidRequest as error:
            return error.with_traceback(None)
        return self._processor(images=[picture], return_tensors="pt")["pixel_values"][0]

    def blank(self) -> bytes:
        """A picture with nothing on it."""
        from PIL import Image

        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, "PNG")
        return file.getvalue()


class TextTower:
    """``pad_to``: SigLIP was trained on texts that are padded to one length, and reads the padding too."""

    def __init__(self, model: Any, *, pad: int, pad_to: int | None, whole: bool) -> None:
        self._model = model
        self._pad = pad
        self._pad_to = pad_to
        self._call = model.get_text_features if whole else model

    def run(self, texts: list[Tokens]) -> list[Any]:
        import torch

        if self._pad_to is not None:
            texts = [Tokens(text.ids + [self._pad] * (self._pad_to - len(text.ids))) for text in texts]
        with torch.inference_mode():
            batch, _ = padded(texts, self._pad, self._model.device)
            return rows(normalize(_features(self._call(**batch)).float()))


class ImageTower:
    def __init__(self, model: Any, read: Callable[[bytes], Any], *, whole: bool) -> None:
        self._model = model
        self._read = read
        self._call = model.get_image_features if whole else model

    def run(self, pictures: list[bytes]) -> list[Any]:
        """A vector each, or the error of one that cannot be read."""
        found = [self._read(data) for data in pictures]
        readable = [pixels for pixels in found if not isinstance(pixels, APIError)]
        vectors = iter(self._vectors(readable) if readable else [])
        return [entry if isinstance(entry, APIError) else next(vectors) for entry in found]

    def _vectors(self, pictures: list[Any]) -> list[Any]:
        import torch

        with torch.inference_mode():
            pixels = torch.stack(pictures).to(self._model.device, self._model.dtype)
            return rows(normalize(_features(self._call(pixel_values=pixels)).float()))


def _features(output: Any) -> Any:
    """The vector of a tower: projected where the model projects."""
    for name in ("text_embeds", "image_embeds", "pooler_output"):
        if (found := getattr(output, name, None)) is not None:
            return found
    return output
