from __future__ import annotations

import pytest
from PIL import Image

from handlers.pixels import from_pil, to_pil


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_a_picture_comes_back_as_it_was(mode, channels) -> None:
    image = Image.effect_noise((5, 3), 60).convert(mode)
    picture = from_pil(image)
    assert (picture.width, picture.height, picture.channels, len(picture.pixels)) == (5, 3, channels, 15 * channels)
    assert to_pil(picture) == image


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "I;16"])
def test_other_modes_become_rgb(mode) -> None:
    image = Image.new("L", (4, 2), 255).convert(mode)
    assert from_pil(image).channels == 3
