"""The encoder's files as another library reads them."""

from __future__ import annotations

import io
from typing import Any

import av
import pytest
from PIL import Image

from handlers.types import Picture
from openai_compat.media.video import VideoEncoder, thumbnail

COLORS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (250, 250, 250), (5, 5, 5), (128, 90, 30)]


def plain(color: tuple[int, ...], width: int = 64, height: int = 48) -> Picture:
    channels: Any = len(color)
    return Picture(width=width, height=height, pixels=bytes(color) * (width * height), channels=channels)


def encode(frames: list[Picture], rate: float) -> bytes:
    encoder = VideoEncoder()
    for frame in frames:
        encoder.add(frame)
    return encoder.finish(rate)


def read(data: bytes) -> tuple[Any, list[Any]]:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        return stream, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.mark.parametrize("rate", [8, 24, 30000 / 1001, 12.5, 1])
def test_frames_rate_and_size_come_back(rate: float) -> None:
    with av.open(io.BytesIO(encode([plain(color) for color in COLORS], rate))) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (64, 48, 6)
        assert float(stream.average_rate) == pytest.approx(rate, rel=1e-4)
        assert times == pytest.approx([number / rate for number in range(6)], abs=1e-3)
        assert float(stream.duration * stream.time_base) == pytest.approx(6 / rate, abs=1e-3)


def test_colors_stay_what_they_were() -> None:
    stream, frames = read(encode([plain(color) for color in COLORS], 8))
    assert stream.codec_context.colorspace == 1
    assert stream.codec_context.color_range == 1
    for color, frame in zip(COLORS, frames, strict=True):
        assert frame[20, 30].tolist() == pytest.approx(color, abs=6)


def test_the_index_comes_before_the_frames_so_that_it_plays_while_it_is_fetched() -> None:
    data = encode([plain(color) for color in COLORS] * 40, 24)
    assert data[4:8] == b"ftyp"
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("width", "height"), [(33, 17), (2, 2), (1, 1), (16, 15)])
def test_an_odd_size_is_made_even(width: int, height: int) -> None:
    stream, frames = read(encode([plain((10, 200, 10), width, height)] * 2, 8))
    assert (stream.width, stream.height) == (width + width % 2, height + height % 2)
    assert frames[0][-1, -1].tolist() == pytest.approx([10, 200, 10], abs=8)


@pytest.mark.parametrize("color", [(90,), (90, 90, 90), (90, 90, 90, 255)])
def test_grey_and_transparent_frames_are_taken(color: tuple[int, ...]) -> None:
    assert read(encode([plain(color)], 8))[1][0][0, 0].tolist() == pytest.approx([90, 90, 90], abs=3)


def test_a_video_without_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        VideoEncoder().finish(8)


def test_one_that_is_given_up_can_be_closed_twice() -> None:
    encoder = VideoEncoder()
    encoder.add(plain((1, 2, 3)))
    encoder.close()
    encoder.close()


def test_a_thumbnail_is_small_and_keeps_the_shape() -> None:
    with Image.open(io.BytesIO(thumbnail(plain((200, 40, 40), 1280, 720)))) as image:
        assert (image.format, image.size) == ("WEBP", (512, 288))
        assert image.convert("RGB").getpixel((9, 9)) == pytest.approx((200, 40, 40), abs=8)
