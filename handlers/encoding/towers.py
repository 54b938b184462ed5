"""Models with a side for texts and a side for pictures, whose vectors can be compared: CLIP and SigLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from handlers.encoding.batcher import Item
from handlers.encoding.encoder import padded, rows
from handlers.encoding.pooling import normalize
from handlers.encoding.texts import Tokens
from handlers.pixels import to_pil
from handlers.types import Picture

LANE = "image"
PIXELS_PER_TOKEN = 20_000
"""How many pixels are brought to size in the time that one token takes, roughly, so that large pictures run alone."""


class PictureReader:
    """Pictures → what the image side runs on.

    A picture is brought to size only in its batch: others have their turns between large ones.
    """

    def __init__(self, processor: Any, *, patches: int) -> None:
        self._processor = processor
        self._patches = patches

    def items(self, images: Sequence[Picture]) -> list[Item]:
        lengths = [self._patches + image.width * image.height // PIXELS_PER_TOKEN for image in images]
        return [Item(lane=LANE, length=length, inputs=image) for length, image in zip(lengths, images, strict=True)]

    def read(self, picture: Picture) -> Any:
        """What the image side takes of it."""
        return self._processor(images=[to_pil(picture).convert("RGB")], return_tensors="pt")["pixel_values"][0]

    def blank(self) -> Picture:
        """A picture with nothing on it."""
        return Picture(width=64, height=64, pixels=bytes(3 * 64 * 64))


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
    def __init__(self, model: Any, read: Callable[[Picture], Any], *, whole: bool) -> None:
        self._model = model
        self._read = read
        self._call = model.get_image_features if whole else model

    def run(self, pictures: list[Picture]) -> list[Any]:
        """A vector each."""
        import torch

        with torch.inference_mode():
            pixels = torch.stack([self._read(picture) for picture in pictures]).to(self._model.device, self._model.dtype)
            return rows(normalize(_features(self._call(pixel_values=pixels)).float()))


def _features(output: Any) -> Any:
    """The vector of a tower: projected where the model projects."""
    for name in ("text_embeds", "image_embeds", "pooler_output"):
        if (found := getattr(output, name, None)) is not None:
            return found
    return output
