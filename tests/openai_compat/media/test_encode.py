"""The encoder's files as another library reads them."""

from __future__ import annotations

import io
import math
import struct
from array import array
from itertools import pairwise

import av
import psutil
import pytest

from openai_compat.media.encode import Encoder

SECONDS = 2.0
FORMATS = {
    "mp3": ("mp3", "mp3float", 22_050),
    "opus": ("ogg", "opus", 48_000),
    "aac": ("aac", "aac", 22_050),
    "flac": ("flac", "flac", 22_050),
    "wav": ("wav", "pcm_s16le", 22_050),
}


def tone(rate: int, channels: int = 1, seconds: float = SECONDS, hertz: float = 440.0) -> bytes:
    one = (round(8000 * math.sin(2 * math.pi * hertz * i / rate)) for i in range(round(rate * seconds)))
    return array("h", [value for sample in one for value in [sample] * channels]).tobytes()


def encode(format: str, pcm: bytes, rate: int, channels: int = 1, piece: int = 9_000) -> bytes:
    encoder = Encoder(format, rate, channels)
    pieces = [encoder.feed(pcm[i : i + piece]) for i in range(0, len(pcm), piece)]
    return b"".join([*pieces, encoder.finish()])


def read(data: bytes) -> tuple[str, str, int, int, list[float]]:
    """Container, codec, rate, channels, and the samples of the first channel from -1 to 1."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        planar = av.AudioResampler(format="fltp", rate=stream.rate)
        frames = [out for frame in container.decode(stream) for out in planar.resample(frame)]
        samples = [value for f in frames for value in struct.unpack(f"<{f.samples}f", bytes(f.planes[0])[: 4 * f.samples])]
        return container.format.name, stream.codec.name, stream.rate, stream.channels, samples


def hertz_of(samples: list[float], rate: int) -> float:
    """The pitch of a tone, by its zero crossings in the middle."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    return sum(a < 0 <= b for a, b in pairwise(middle)) * rate / len(middle)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_has_its_codec_and_rate_and_the_sound_that_went_in(format: str, channels: int) -> None:
    container, codec, rate, found, samples = read(encode(format, tone(22_050, channels), 22_050, channels))
    assert (container, codec, rate, found) == (*FORMATS[format], channels)
    assert len(samples) / rate == pytest.approx(SECONDS, abs=0.1)
    assert hertz_of(samples, rate) == pytest.approx(440, rel=0.01)
    assert max(samples) == pytest.approx(8000 / 32768, rel=0.15)


@pytest.mark.parametrize(
    ("rate", "kept"), [(16_000, 16_000), (32_000, 32_000), (44_100, 44_100), (10_000, 11_025), (96_000, 48_000)]
)
@pytest.mark.parametrize("format", ["mp3", "aac"])
def test_a_rate_that_mpeg_lacks_becomes_the_next_it_has(format: str, rate: int, kept: int) -> None:
    _, _, found, _, samples = read(encode(format, tone(rate), rate))
    assert found == kept
    assert len(samples) / found == pytest.approx(SECONDS, abs=0.16)
    assert hertz_of(samples, found) == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_is_one_channel_of_24_khz_whatever_comes_in(rate: int, channels: int) -> None:
    data = encode("pcm", tone(rate, channels), rate, channels)
    samples = list(array("h", data))
    assert len(samples) == pytest.approx(SECONDS * 24_000, abs=48)
    assert max(samples) == pytest.approx(8000, rel=0.02)
    assert hertz_of([float(s) for s in samples], 24_000) == pytest.approx(440, rel=0.01)


def test_pcm_of_24_khz_goes_through_unchanged() -> None:
    pcm = tone(24_000)
    assert encode("pcm", pcm, 24_000) == pcm


def test_wav_says_that_its_length_is_not_known_and_holds_the_samples_themselves() -> None:
    pcm = tone(22_050)
    data = encode("wav", pcm, 22_050)
    assert struct.unpack("<4sI4s", data[:12]) == (b"RIFF", 0xFFFFFFFF, b"WAVE")
    assert struct.unpack("<4sI", data[36:44]) == (b"data", 0xFFFFFFFF)
    assert data[44:] == pcm


@pytest.mark.parametrize("format", [*FORMATS, "pcm"])
def test_the_size_of_the_pieces_does_not_change_the_file(format: str) -> None:
    pcm = tone(22_050)
    whole = encode(format, pcm, 22_050, piece=len(pcm))
    for piece in (2, 130_000) if format == "pcm" else (1_000,):
        other = encode(format, pcm[:40_000] if piece == 2 else pcm, 22_050, piece=piece)
        if format == "opus":  # its stream has a random number of its own
            assert read(other)[4] == read(whole)[4]
        elif piece == 2:
            assert other[:30_000] == whole[:30_000]
        else:
            assert other == whole


@pytest.mark.parametrize("format", [*FORMATS, "pcm"])
def test_bytes_come_while_the_sound_is_made_and_none_are_kept(format: str) -> None:
    pcm = tone(22_050, seconds=1.0)
    encoder = Encoder(format, 22_050)
    sizes = [len(encoder.feed(pcm)) for _ in range(8)]
    rest = len(encoder.finish())
    assert all(sizes)
    assert rest < sizes[-1]
    assert max(sizes[1:]) < 1.3 * min(sizes[1:])


@pytest.mark.parametrize("format", [*FORMATS, "pcm"])
def test_encoders_that_are_closed_unfinished_keep_no_memory(format: str) -> None:
    process, pcm = psutil.Process(), tone(22_050, seconds=0.1)

    def grown(times: int) -> int:
        before = process.memory_info().rss
        for _ in range(times):
            encoder = Encoder(format, 22_050)
            encoder.feed(pcm)
            encoder.close()
        return process.memory_info().rss - before

    grown(10)
    assert grown(100) < 64 << 20


@pytest.mark.parametrize("format", [*FORMATS, "pcm"])
def test_a_sound_of_nothing_is_no_error(format: str) -> None:
    assert len(encode(format, b"", 22_050)) < 10_000
