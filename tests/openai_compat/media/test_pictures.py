"""Pictures that are taken, and what becomes of them."""

from __future__ import annotations

import asyncio
import io
import struct
from contextlib import suppress

import psutil
import pytest
from msgspec import Struct
from PIL import Image

from handlers.types import Picture, Sound
from openai_compat.errors import InvalidRequest
from openai_compat.media import children
from openai_compat.media.decoder import AudioLimits, MediaDecoder, PictureLimits

FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]
EXIF_ORIENTATION = 0x0112


def encoded(image: Image.Image | None = None, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (image or Image.new("RGB", (4, 2), (200, 10, 30))).save(file, format, **options)
    return file.getvalue()


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    bands = [Image.effect_noise(size, 60) for _ in range(3)]
    return Image.merge("RGB", bands).convert(mode)


@pytest.mark.parametrize("format", FORMATS)
def test_the_four_formats_are_read_as_rgb(bench, format) -> None:
    picture = bench.see(encoded(format=format))
    assert (picture.width, picture.height, picture.channels, len(picture.pixels)) == (4, 2, 3, 24)
    assert all(abs(a - b) < 8 for a, b in zip(picture.pixels[:3], (200, 10, 30), strict=True))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA"])
def test_png_pixels_are_the_library_s(bench, mode) -> None:
    image = noise((37, 23), "RGB").convert(mode)
    assert bench.see(encoded(image)).pixels == image.convert("RGB").tobytes()


@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_turned_upright_as_the_library_does_it(bench, orientation) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = encoded(noise((9, 5)), exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image)
    picture = bench.see(data)
    assert (picture.width, picture.height) == picture.full_size == expected.size
    assert picture.pixels == expected.convert("RGB").tobytes()


def test_grey_of_sixteen_bits_keeps_its_shades(bench) -> None:
    grey = Image.frombytes("I;16", (4, 1), struct.pack("<4H", 0, 257, 25_700, 65_535))
    assert bench.see(encoded(grey)).pixels == bytes(shade for shade in (0, 1, 100, 255) for _ in range(3))


def test_of_an_animation_the_first_picture_is_seen(bench) -> None:
    frames = [Image.new("RGB", (3, 3), color) for color in ("red", "blue", "green")]
    for format in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        assert bench.see(data).pixels == frames[0].tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept_where_it_counts(bench, mode) -> None:
    image = noise((6, 4), "RGBA")
    image.putalpha(Image.linear_gradient("L").resize((6, 4)))
    data = encoded(image.convert(mode) if mode != "P" else image.quantize())
    picture = bench.see(data, alpha=True)
    assert (picture.channels, len(set(picture.pixels[3::4]))) == (4, 4)
    assert bench.see(data).channels == 3


def test_without_transparency_there_are_three_channels(bench) -> None:
    assert bench.see(encoded(), alpha=True).channels == 3


@pytest.mark.parametrize("format", FORMATS)
def test_a_large_picture_is_reduced_by_a_whole_factor(bench, format) -> None:
    limits = PictureLimits(kept=1000)
    image = Image.linear_gradient("L").resize((90, 61)).convert("RGB")
    picture = bench.see(encoded(image, format), limits=limits)
    assert (picture.width, picture.height, picture.full_size) == (30, 21, (90, 61))
    reduced = image.reduce(3).tobytes()
    assert max(abs(a - b) for a, b in zip(picture.pixels, reduced, strict=True)) < 12


def test_a_reduced_picture_that_lies_on_its_side_tells_its_upright_size(bench) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    picture = bench.see(encoded(noise((80, 60)), "JPEG", exif=exif), limits=PictureLimits(kept=1200))
    assert (picture.width, picture.height, picture.full_size) == (30, 40, (60, 80))


def test_a_picture_of_usual_size_stays_as_it_is(bench) -> None:
    picture = bench.see(encoded(Image.new("RGB", (4000, 4000)), "JPEG"))
    assert (picture.width, picture.height) == picture.full_size == (4000, 4000)


@pytest.mark.parametrize("size", [(201, 1), (1, 40_000)])
def test_a_picture_that_a_model_would_blow_up_is_refused(bench, size) -> None:
    assert "more than 200 times as long" in bench.unseen(encoded(Image.new("RGB", size))).message


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_picture_that_was_cut_off_is_a_refusal_in_our_own_words(bench, format, share) -> None:
    data = encoded(noise((64, 64)), format)
    message = bench.unseen(data[: int(len(data) * share)]).message
    assert message == "The picture cannot be read: the file is broken, or not what it seems. Formats: PNG, JPEG, WebP and GIF."


@pytest.mark.parametrize("format", FORMATS)
def test_flipped_bytes_are_a_picture_or_a_refusal(bench, format) -> None:
    data = bytearray(encoded(format=format))
    for place in range(len(data)):
        data[place] ^= 0xFF
        with suppress(InvalidRequest):
            assert bench.see(bytes(data)).width
        data[place] ^= 0xFF


# ---------------------------------------------------------------- together


class Part(Struct, frozen=True, kw_only=True):
    param: str
    data: bytes
    kind: str = "picture"
    alpha: bool = False
    url: str = ""


def together(bench, *parts: Part, limits: PictureLimits = PictureLimits()):  # noqa: B008 -- frozen
    async def scenario():
        decoder = MediaDecoder(pictures=limits)
        try:
            return await decoder.decode_together(parts, rate=8_000)
        finally:
            await decoder.close()

    return bench.runner.run(scenario())


def test_pictures_and_recordings_come_by_their_fields(bench, make_wav) -> None:
    image = noise((5, 5), "RGBA")
    image.putalpha(100)
    parts = [
        Part(param="a", data=encoded()),
        Part(param="b", data=make_wav(bytes(3200)), kind="audio"),
        Part(param="c", data=encoded(image), alpha=True),
    ]
    found = together(bench, *parts)
    assert list(found) == ["a", "b", "c"]
    assert isinstance(found["a"], Picture)
    assert (found["b"], found["c"].channels) == (Sound(pcm=bytes(1600), rate=8_000), 4)


def test_nothing_costs_nothing(bench) -> None:
    assert together(bench) == {}


def test_the_pictures_of_a_request_share_one_budget(bench) -> None:
    parts = [Part(param=f"p{i}", data=encoded(Image.new("RGB", (100, 100)))) for i in range(3)]
    assert len(together(bench, *parts, limits=PictureLimits(together=90_000))) == 3
    with pytest.raises(InvalidRequest, match="together") as caught:
        together(bench, *parts, limits=PictureLimits(together=89_999))
    assert caught.value.param in {"p0", "p1", "p2"}


def test_the_recordings_of_a_request_share_their_seconds(bench, make_wav) -> None:
    async def scenario(count: int) -> int:
        decoder = MediaDecoder(AudioLimits(seconds=3.0))
        parts = [Part(param=f"s{i}", data=make_wav(bytes(32_000)), kind="audio") for i in range(count)]
        try:
            return len(await decoder.decode_together(parts, rate=8_000))
        finally:
            await decoder.close()

    assert bench.runner.run(scenario(3)) == 3
    with pytest.raises(InvalidRequest, match="together") as caught:
        bench.runner.run(scenario(4))
    assert caught.value.code == "invalid_audio"


def test_the_first_bad_picture_ends_the_others(bench) -> None:
    parts = [Part(param="good", data=encoded()), Part(param="bad", data=encoded()[:40]), Part(param="late", data=encoded())]
    with pytest.raises(InvalidRequest) as caught:
        together(bench, *parts)
    assert caught.value.param == "bad"


def test_no_more_than_two_processes_work_side_by_side(bench) -> None:
    async def scenario() -> None:
        decoder = MediaDecoder()
        parts = [Part(param=str(i), data=encoded(Image.new("RGB", (1 + i, 1), (i, i, i)))) for i in range(9)]
        both = await asyncio.gather(*(decoder.decode_together(parts, rate=8_000) for _ in range(3)))
        assert all(found["5"].pixels == bytes([5]) * 18 for found in both)
        assert len(decoder.pictures.idle) <= children.SIDE_BY_SIDE
        await decoder.close()

    bench.runner.run(scenario())


def test_who_stops_waiting_leaves_no_process_at_work(bench) -> None:
    async def scenario() -> None:
        decoder = MediaDecoder()
        parts = [Part(param=str(i), data=encoded(noise((2000, 1000)))) for i in range(6)]
        before = set(psutil.Process().children())
        waiting = asyncio.ensure_future(decoder.decode_together(parts, rate=8_000))
        while not set(psutil.Process().children()) - before:
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert (await decoder.decode_together(parts[:1], rate=8_000))["0"].width == 2000
        await decoder.close()

    bench.runner.run(scenario())
