import io
import struct
import zlib
from contextlib import suppress

import pytest
from PIL import Image

from handlers.echo_media import png
from openai_compat.errors import InvalidRequest
from openai_compat.media.images import decode_image


def encoded(format: str, **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 2), (200, 10, 30)).save(file, format, **options)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_four_formats_are_read_as_rgb(format):
    image = decode_image(encoded(format), param="p")
    assert (image.mode, image.size) == ("RGB", (4, 2))


def test_a_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded("JPEG", exif=exif.tobytes()), param="p").size == (2, 4)


def test_grey_of_sixteen_bits_keeps_its_shades():
    file = io.BytesIO()
    Image.frombytes("I;16", (4, 1), struct.pack("<4H", 0, 257, 25_700, 65_535)).save(file, "PNG")
    assert decode_image(file.getvalue(), param="p").tobytes() == bytes(shade for shade in (0, 1, 100, 255) for _ in range(3))


@pytest.mark.parametrize("size", [(201, 1), (1, 40_000)])
def test_a_picture_that_a_model_would_blow_up_is_refused(size):
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    with pytest.raises(InvalidRequest, match="more than 200 times as long"):
        decode_image(file.getvalue(), param="p")


@pytest.mark.parametrize("format", ["BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000", "PCX"])
def test_other_formats_are_refused_although_the_library_knows_them(format):
    with pytest.raises(InvalidRequest) as caught:
        decode_image(encoded(format), param="input")
    assert caught.value.param == "input"


@pytest.mark.parametrize(("width", "height"), [(40_001, 1_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_before_they_are_decoded(width, height):
    with pytest.raises(InvalidRequest, match=r"more than 40000000 pixels|cannot be read"):
        decode_image(png_that_claims(width, height), param="p")


@pytest.mark.parametrize("cut", [0, 1, 8, 20, 33, 40, 55])
def test_a_broken_picture_is_refused_in_our_own_words(cut):
    with pytest.raises(InvalidRequest) as caught:
        decode_image(png(64, 64, (1, 2, 3))[:cut], param="p")
    assert caught.value.message == "The picture cannot be read; PNG, JPEG, WebP and GIF are."


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_flipped_bytes_are_a_picture_or_a_refusal(format):
    data = bytearray(encoded(format))
    for i in range(len(data)):
        data[i] ^= 0xFF
        with suppress(InvalidRequest):
            decode_image(bytes(data), param="p")
        data[i] ^= 0xFF
