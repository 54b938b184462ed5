"""Models with a side for texts and a side for pictures, whose vectors can be compared: CLIP and SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handlers.encoding.batcher import Item
from handlers.encoding.encoder import padded, rows
from handlers.encoding.pooling import normalize
from handlers.encoding.texts import Tokens
from openai_compat.media.images import decode_image

LANE = "image"


class PictureReader:
    """Encoded pictures → what the image side runs on; one at a time, so that only one is in memory whole."""

    def __init__(self, processor: Any, *, patches: int) -> None:
        self._processor = processor
        self._patches = patches

    def items(self, images: Sequence[bytes]) -> list[Item]:
        pictures = (decode_image(data, param="input") for data in images)
        return [Item(lane=LANE, length=self._patches, inputs=self.pixels(picture)) for picture in pictures]

    def blank(self) -> Any:
        """What the image side takes, of a picture with nothing on it."""
        from PIL import Image

        return self.pixels(Image.new("RGB", (64, 64)))

    def pixels(self, picture: Any) -> Any:
        """What the image side takes, of a picture of Pillow."""
        return self._processor(images=[picture], return_tensors="pt")["pixel_values"][0]


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
    def __init__(self, model: Any, *, whole: bool) -> None:
        self._model = model
        self._call = model.get_image_features if whole else model

    def run(self, pictures: list[Any]) -> list[Any]:
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
