"""Pictures that are made to do harm: each is refused, or taken, within bounds of time and memory."""

from __future__ import annotations

import io
import random
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
from PIL import Image

from openai_compat.errors import InvalidRequest
from openai_compat.media.child import MODULE
from openai_compat.media.decoder import PictureLimits

SECONDS = 60.0  # for a machine that is busy with other things; alone the slowest takes 3
RESIDENT = 900 << 20
EXIF_ORIENTATION = 0x0112
HUGE = [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (65_535, 65_535), (6_325, 6_325)]


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, pixels: bytes = b"\0" * 4, depth: int = 8, kind: int = 2) -> bytes:
    """``extra`` chunks stand before the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def bomb(size: int = 1 << 28) -> bytes:
    """A quarter of a gigabyte of nothing, packed; 260 kB."""
    packer = zlib.compressobj()
    piece = bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


@pytest.fixture(scope="module")
def packed() -> bytes:
    return bomb()


@contextmanager
def bounded() -> Iterator[None]:
    """The processes that decode stay within ``RESIDENT`` bytes and ``SECONDS``."""
    peak, done, me = 0, threading.Event(), psutil.Process()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            for process in me.children():
                with suppress(psutil.Error):
                    if MODULE in process.cmdline():  # before that it is as large as this process, which has begun it
                        peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - began
        done.set()
        watcher.join()
    assert took < SECONDS
    assert peak < RESIDENT


@pytest.fixture(autouse=True)
def every_picture_is_bounded() -> Iterator[None]:
    with bounded():
        yield


def taken_or_refused(bench, data: bytes) -> tuple[int, int] | None:
    """The size of a picture that may as well be refused, in our words."""
    try:
        picture = bench.see(data)
    except InvalidRequest:
        bench.unseen(data)
        return None
    assert len(picture.pixels) == 3 * picture.width * picture.height
    return picture.width, picture.height


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", HUGE)
def test_a_png_that_claims_to_be_huge(bench, size) -> None:
    assert "pixels" in bench.unseen(png(*size)).message or size[0] > 2**30


@pytest.mark.parametrize("sof", [0xC0, 0xC2])
def test_a_jpeg_that_claims_to_be_huge(bench, sof) -> None:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG", progressive=sof == 0xC2))
    place = data.index(bytes((0xFF, sof)))
    struct.pack_into(">HH", data, place + 5, 65_500, 65_500)
    assert "40000000 pixels" in bench.unseen(bytes(data)).message


def test_a_jpeg_without_a_height(bench) -> None:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    struct.pack_into(">H", data, data.index(b"\xff\xc0") + 5, 0)
    bench.unseen(bytes(data))


def webp(kind: bytes, body: bytes) -> bytes:
    inside = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


WEBPS = {
    "extended": webp(b"VP8X", b"\x02\0\0\0" + (16_383).to_bytes(3, "little") * 2) + b"ANIM",
    "the largest extended": webp(b"VP8X", b"\0" * 4 + b"\xff" * 6),
    "lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 16_383 | 16_383 << 14) + bytes(50)),
    "lossy": webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + bytes(50)),
}


@pytest.mark.parametrize("data", WEBPS.values(), ids=WEBPS)
def test_a_webp_that_claims_to_be_huge(bench, data) -> None:
    assert "40000000 pixels" in bench.unseen(data).message


def test_a_webp_whose_frame_is_larger_than_it_says(bench) -> None:
    small = bytearray(encoded(Image.new("RGBA", (64, 64), (1, 2, 3, 4)), "WEBP", lossless=True, exif=b"Exif\0\0" + bytes(8)))
    assert small[12:16] == b"VP8X"
    small[24:30] = bytes(6)
    taken_or_refused(bench, bytes(small))


def gif(screen: tuple[int, int], frame: tuple[int, int], frames: int = 1) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    one = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\0"
    return head + one * frames + b";"


@pytest.mark.parametrize(
    ("screen", "frame"), [((65_535, 65_535), (1, 1)), ((1, 1), (65_535, 65_535)), ((6_400, 6_400), (6_400, 6_400))]
)
def test_a_gif_that_claims_to_be_huge(bench, screen, frame) -> None:
    assert "pixels" in bench.unseen(gif(screen, frame)).message


def test_of_a_gif_with_ten_thousand_frames_one_is_decoded(bench) -> None:
    frames = [Image.new("P", (32, 32), color=i % 2) for i in range(2)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    body = data[data.index(b"!\xf9") : -1]
    many = data[: data.index(b"!\xf9")] + body * 5_000 + b";"
    assert bench.see(many).width == 32


@pytest.mark.parametrize("mode", ["1", "RGB"])
def test_a_small_file_with_39_million_pixels_is_taken_and_reduced(bench, mode) -> None:
    data = encoded(Image.new(mode, (7_800, 5_000)))
    assert len(data) < 200_000
    picture = bench.see(data)
    assert (picture.width, picture.height, picture.full_size) == (3_900, 2_500, (7_800, 5_000))


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_so_it_is_in_the_other_formats(bench, format) -> None:
    picture = bench.see(encoded(Image.new("RGB", (7_800, 5_000)), format))
    assert (picture.width, picture.height) == (3_900, 2_500)


# ---------------------------------------------------------------- what is packed, repeated, or beside the picture


@pytest.mark.parametrize(
    ("kind", "head"),
    [(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"iCCP", b"Profile\0\0")],
)
def test_a_text_or_profile_that_unpacks_to_far_more(bench, packed, kind, head) -> None:
    bench.unseen(png(8, 8, chunk(kind, head + packed), pixels=bytes(8 * 25)))


def test_many_texts_that_unpack_to_far_more_together(bench) -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes((1 << 20) - 1)))
    bench.unseen(png(8, 8, *[text] * 1_000, pixels=bytes(8 * 25)))


def test_pixels_that_unpack_to_far_more_than_there_are(bench, packed) -> None:
    data = png(8, 8)
    start = data.index(b"IDAT") - 4
    assert taken_or_refused(bench, data[:start] + chunk(b"IDAT", packed) + chunk(b"IEND", b"")) in ((8, 8), None)


def test_a_hundred_thousand_chunks(bench) -> None:
    many = chunk(b"tEXt", b"a\0b") * 100_000
    assert taken_or_refused(bench, png(8, 8, many, pixels=bytes(8 * 25))) in ((8, 8), None)


def test_an_animation_that_claims_millions_of_frames(bench) -> None:
    animated = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    assert taken_or_refused(bench, png(8, 8, animated, pixels=bytes(8 * 25))) in ((8, 8), None)


def scans(count: int) -> bytes:
    """A progressive JPEG, one of whose scans comes ``count`` times."""
    data = encoded(Image.new("RGB", (2_000, 2_000)), "JPEG", progressive=True)
    starts = [place for place in range(len(data) - 1) if data[place : place + 2] == b"\xff\xda"]
    pieces = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data) - 2], strict=True)]
    return data[:-2] + min(pieces[1:], key=len) * count + b"\xff\xd9"


def test_thousands_of_scans_end_at_the_processor_s_time(bench) -> None:
    message = bench.unseen(scans(20_000), limits=PictureLimits(cpu=1)).message
    assert message == "The picture could not be decoded within this server's limits of time and memory."
    assert bench.see(scans(0)).width == 2_000


def test_thousands_of_markers(bench) -> None:
    plain = encoded(Image.new("RGB", (8, 8)), "JPEG")
    for marker in (b"\xff\xfe\x00\x02", b"\xff\xe1\x00\x08Exif\0\0", b"\xff\xe2\x00\x10ICC_PROFILE\0\1\xff"):
        assert taken_or_refused(bench, plain[:2] + marker * 50_000 + plain[2:]) in ((8, 8), None)


def exif(entries: int, *, kind: int = 3, count: int = 1, value: int = 6, more: int = 0) -> bytes:
    """EXIF data whose one tag, ``entries`` times, is the orientation; ``more`` is where the next list begins."""
    entry = struct.pack("<HHII", EXIF_ORIENTATION, kind, count, value)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", entries) + entry * entries + struct.pack("<I", more)


EXIFS = {
    "a list that leads to itself": exif(1, more=8),
    "more entries than there are": exif(1)[:14] + b"\xff\xff" + exif(1)[16:],
    "thousands of entries": exif(5_000),
    "billions of values": exif(1, count=2**32 - 1),
    "values of eight bytes beyond the end": exif(1, kind=5, count=2**28, value=2**31),
    "no number": exif(1, kind=2),
    "an orientation that there is not": exif(1, value=99),
    "an unknown kind": exif(1, kind=77),
    "cut off": exif(1)[:17],
    "nothing": b"Exif\0\0",
    "no byte order": b"Exif\0\0XX*\0\x08\0\0\0",
    "noise": b"Exif\0\0" + random.Random(1).randbytes(60_000),
}


@pytest.mark.parametrize("data", EXIFS.values(), ids=EXIFS)
def test_broken_exif_data_do_not_make_a_picture_unreadable(bench, data) -> None:
    for file in (
        encoded(Image.new("RGB", (8, 4)), "JPEG", exif=data),
        encoded(Image.new("RGB", (8, 4)), "WEBP", exif=data),
        png(8, 4, chunk(b"eXIf", data.removeprefix(b"Exif\0\0")), pixels=bytes(4 * 25)),
    ):
        assert taken_or_refused(bench, file) in ((8, 4), (4, 8))


def test_ten_megabytes_of_exif_data(bench) -> None:
    data = exif(60_000)[6:] + bytes(10 << 20)
    assert taken_or_refused(bench, png(8, 4, chunk(b"eXIf", data), pixels=bytes(4 * 25))) in ((8, 4), (4, 8), None)


def test_a_profile_that_is_noise(bench) -> None:
    noise = random.Random(2).randbytes(3_000)
    for format in ("PNG", "JPEG", "WEBP"):
        assert bench.see(encoded(Image.new("RGB", (8, 4)), format, icc_profile=noise)).width == 8


def test_a_jpeg_with_more_pictures_behind_it_is_its_first(bench) -> None:
    others = [Image.new("RGB", (10, 10), "blue") for _ in range(20)]
    picture = bench.see(encoded(Image.new("RGB", (10, 10), "red"), "MPO", save_all=True, append_images=others))
    assert (picture.width, picture.pixels[0] > 200) == (10, True)


# ---------------------------------------------------------------- files that are something else, or several things


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("payload.html", "<script>alert(1)</script>")
    return file.getvalue()


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


OTHERS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a byte": lambda: b"\x89",
    "text": lambda: b"GIF picture",
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "HTML": lambda: b"<html><img src=x></html>",
    "PDF": lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "zip": archive,
    "FITS": lambda: b"SIMPLE  =                    T".ljust(2880),
    "PSD": lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(40),
    "AVIF": lambda: box(b"ftyp", b"avif\0\0\0\0avifmif1") + bytes(40),
    "HEIC": lambda: box(b"ftyp", b"heic\0\0\0\0heicmif1") + bytes(40),
    "MP4": lambda: box(b"ftyp", b"isom\0\0\0\0isomavc1") + box(b"moov"),
    "WebM": lambda: b"\x1a\x45\xdf\xa3" + bytes(40),
    "AVI": lambda: b"RIFF\x24\0\0\0AVI LIST" + bytes(40),
    "WAV": lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "JPEG XL": lambda: b"\xff\x0a" + bytes(40),
    "JPEG 2000 codestream": lambda: b"\xff\x4f\xff\x51" + bytes(40),
    **{
        name: lambda name=name: encoded(Image.new("RGB", (16, 16)), name)
        for name in ("BMP", "TIFF", "ICO", "JPEG2000", "PPM", "TGA", "PCX", "DDS", "ICNS", "SGI", "EPS", "PDF")
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_by_their_first_bytes(bench, name) -> None:
    assert "PNG, JPEG, WebP and GIF" in bench.unseen(OTHERS[name]()).message


MAGICS = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff\xe0",
    "gif": b"GIF89a",
    "webp": b"RIFF\xff\xff\xff\xffWEBP",
}


@pytest.mark.parametrize("magic", MAGICS)
@pytest.mark.parametrize("name", ["SVG", "PDF", "PostScript", "zip", "TIFF", "MP4", "nothing"])
def test_a_good_beginning_does_not_make_it_a_picture(bench, magic, name) -> None:
    bench.unseen(MAGICS[magic] + OTHERS[name]())


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("name", ["zip", "PDF", "HTML", "MP4"])
def test_what_stands_behind_a_picture_is_not_looked_at(bench, format, name) -> None:
    assert bench.see(encoded(Image.new("RGB", (8, 8)), format) + OTHERS[name]()).width == 8


# ---------------------------------------------------------------- broken in every way


def mutated(data: bytes, chance: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.choice((1, 3, 20))):
        place = chance.randrange(min(len(broken), chance.choice((64, 512, len(broken)))))
        broken[place] = chance.choice((0, 0xFF, 0x7F, chance.randrange(256), broken[place] ^ 1 << chance.randrange(8)))
    if chance.random() < 0.2:
        del broken[chance.randrange(len(broken)) :]
    return bytes(broken)


def fuzz(bench, format: str, rounds: int, seed: str) -> None:
    chance = random.Random(seed)
    image = Image.merge("RGB", [Image.effect_noise((48, 32), 60) for _ in range(3)])
    options = {"exif": exif(2)} if format != "GIF" else {}
    whole = encoded(image, format, **options)
    for _ in range(rounds):
        with suppress(InvalidRequest):
            picture = bench.see(mutated(whole, chance), alpha=chance.random() < 0.5)
            assert len(picture.pixels) == picture.channels * picture.width * picture.height


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP"])
def test_flipped_bits_give_a_picture_or_a_refusal(bench, format) -> None:
    fuzz(bench, format, 100, format)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP"])
def test_many_flipped_bits_give_a_picture_or_a_refusal(bench, format) -> None:
    fuzz(bench, format, 3_000, format + "more")


def test_too_little_memory_is_a_refusal(bench) -> None:
    data = encoded(Image.new("RGB", (2_000, 2_000)))
    bench.unseen(data, limits=PictureLimits(memory=8 << 20))
    assert bench.see(data).width == 2_000
