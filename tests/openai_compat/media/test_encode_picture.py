from __future__ import annotations

import io

import pytest
from PIL import Image

from handlers.types import Picture
from openai_compat.media.encode_picture import encode_picture

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def noise(channels: int) -> Picture:
    image = Image.merge("RGB", [Image.effect_noise((40, 30), 90) for _ in range(3)]).convert(MODES[channels])
    return Picture(width=40, height=30, pixels=image.tobytes(), channels=channels)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", MODES)
def test_png_keeps_every_pixel_and_holds_nothing_else(channels) -> None:
    picture = noise(channels)
    with Image.open(io.BytesIO(encode_picture(picture))) as image:
        assert (image.format, image.mode, image.info) == ("PNG", MODES[channels], {})
        assert image.tobytes() == picture.pixels


@pytest.mark.parametrize("format", ["webp", "jpeg"])
@pytest.mark.parametrize("channels", MODES)
def test_formats_with_loss_take_every_number_of_channels(format, channels) -> None:
    with Image.open(io.BytesIO(encode_picture(noise(channels), format))) as image:
        assert (image.format, image.size) == (format.upper(), (40, 30))
        assert set(image.info) <= {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "loop",
            "background",
            "timestamp",
            "duration",
        }


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_quality_costs_bytes(format) -> None:
    picture = noise(3)
    sizes = [len(encode_picture(picture, format, quality)) for quality in (0, 40, 80, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 2
    assert len(encode_picture(picture, format)) == len(encode_picture(picture, format, 95))
