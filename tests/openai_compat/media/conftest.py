"""Sounds in every container, made here."""

from __future__ import annotations

import asyncio
import io
import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from handlers.types import Picture, Sound
from openai_compat.errors import InvalidRequest
from openai_compat.media.decoder import AudioLimits, MediaDecoder, PictureLimits

RATE = 16_000
CONTAINERS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "mp3": ("mp3", "libmp3lame"),
    "ogg opus": ("ogg", "libopus"),
    "ogg vorbis": ("ogg", "vorbis"),
    "ogg flac": ("ogg", "flac"),
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "alac": ("ipod", "alac"),
    "webm": ("webm", "libopus"),
    "mka": ("matroska", "flac"),
}


def tone(seconds: float, rate: int, channels: int = 1) -> bytes:
    """A tone of 440 Hz, the same in every channel, 16 bit."""
    wave = [int(12_000 * math.sin(2 * math.pi * 440 * place / rate)) for place in range(int(seconds * rate))]
    return b"".join(struct.pack("<h", value) * channels for value in wave)


def wav(pcm: bytes, rate: int = RATE, channels: int = 1, *, data_size: int | None = None) -> bytes:
    size = len(pcm) if data_size is None else data_size
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", min(36 + size, 2**32 - 1), b"WAVE", b"fmt ", 16, 1, channels, rate,
                       2 * channels * rate, 2 * channels, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", size) + pcm


def encoded(kind: str, seconds: float = 1.0, *, rate: int = 48_000, layout: str = "mono", bit_rate: int = 0) -> bytes:
    """A tone in a container of ``CONTAINERS``."""
    import av

    container, codec = CONTAINERS[kind]
    layout = "stereo" if codec == "vorbis" else layout
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options={"write_xing": "0"} if codec == "libmp3lame" else {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, layout=layout, options={"strict": "experimental"})
        if bit_rate:
            stream.bit_rate = bit_rate
        frame = av.AudioFrame(format="s16", layout=layout, samples=int(seconds * rate), align=1)
        frame.sample_rate = rate
        frame.pts, frame.time_base = 0, Fraction(1, rate)
        frame.planes[0].update(tone(seconds, rate, frame.layout.nb_channels))
        stream.codec_context.open()
        size = stream.codec_context.frame_size or None
        shaped = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate, frame_size=size)
        for piece in [*shaped.resample(frame), *shaped.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux([packet for packet in stream.encode(None) if packet.size])
    return buffer.getvalue()


class Bench:
    """One decoder for a whole test, on a loop of its own."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.decoder = self.runner.run(self._made())

    async def _made(self) -> MediaDecoder:
        return MediaDecoder()

    def decode(self, data: bytes, *, rate: int = RATE, limits: AudioLimits | None = None) -> Sound:
        return self.runner.run(self.decoder.decode_audio(data, rate=rate, limits=limits))

    def refusal(self, data: bytes, **more: Any) -> InvalidRequest:
        with pytest.raises(InvalidRequest) as caught:
            self.decode(data, **more)
        assert caught.value.param == "file"
        for leak in ("0x", "Error", "avcodec", "libav", "/", "Errno"):
            assert leak not in caught.value.message
        return caught.value

    def see(self, data: bytes, *, alpha: bool = False, limits: PictureLimits | None = None) -> Picture:
        return self.runner.run(self.decoder.decode_image(data, param="p", alpha=alpha, limits=limits))

    def unseen(self, data: bytes, **more: Any) -> InvalidRequest:
        """Why a picture is refused."""
        with pytest.raises(InvalidRequest) as caught:
            self.see(data, **more)
        assert (caught.value.param, caught.value.code) == ("p", "invalid_image")
        for leak in ("0x", "Error", "PIL", "/", "Errno", "<"):
            assert leak not in caught.value.message
        return caught.value

    def pids(self) -> list[int]:
        return [child.pid for child in self.decoder.audio.idle]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.runner.run(made.decoder.close())
    made.runner.close()


@pytest.fixture(scope="session")
def make() -> Callable[..., bytes]:
    return encoded


@pytest.fixture(scope="session")
def make_wav() -> Callable[..., bytes]:
    return wav


@pytest.fixture(scope="session")
def make_tone() -> Callable[..., bytes]:
    return tone
