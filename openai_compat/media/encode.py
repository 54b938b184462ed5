"""Sound of our own models → the bytes of an audio file, piece by piece, as it is made.

What comes in is trusted (a model of this process made it), so this runs where the model runs. Memory stays the same however
long the sound is: what is encoded leaves with each call.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    import av

Format: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
PCM_RATE = 24_000
"""What ``pcm`` always has: nothing in the bytes themselves says it."""
_UNKNOWN = 0xFFFFFFFF  # a size that is not known yet, as every reader of WAV streams understands it
_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_BLOCK = 1 << 16  # bytes that go through the codec at a time


class _Codec(Struct, frozen=True):
    """How a format is made. ``rates`` are those it can have (empty: any), ``bits`` a second for each channel.

    ``effort`` is a step on the encoder's own scale, below its usual one, which takes two to three times as long.
    """

    container: str
    codec: str
    rates: tuple[int, ...] = ()
    bits: int = 0
    options: dict[str, str] = {}
    effort: str = ""


_CODECS: dict[str, _Codec] = {
    "mp3": _Codec("mp3", "libmp3lame", _MPEG_RATES, 64_000, {"write_xing": "0", "id3v2_version": "0"}, effort="7"),
    "opus": _Codec("ogg", "libopus", (48_000,), 48_000, {"page_duration": "100000"}, effort="5"),
    "aac": _Codec("adts", "aac", _MPEG_RATES, 64_000),
    "flac": _Codec("flac", "flac"),
}


class Encoder:
    """Encodes one sound; every piece fed to it has the same rate and channels (two at most are kept).

    A call may take some milliseconds for each second of sound: keep it off the event loop. One that is left unfinished must
    be closed: a codec may hold megabytes.
    """

    def __init__(self, format: Format, rate: int, channels: int = 1) -> None:
        kept = 1 if format == "pcm" else min(2, channels)
        self._source = rate, channels
        self._stage = _Plain(format, rate, kept) if format in ("wav", "pcm") else _Compressed(_CODECS[format], rate, kept)

    def feed(self, pcm: bytes) -> bytes:
        """16 bit little-endian samples, channels interleaved → what can be sent of them by now."""
        rate, channels = self._source
        view, step = memoryview(pcm), _BLOCK // (2 * channels) * 2 * channels
        return b"".join(
            self._stage.encode(_frame(view[start : start + step], rate, channels)) for start in range(0, len(pcm), step)
        )

    def finish(self) -> bytes:
        """What is left, and the end of the file."""
        return self._stage.finish()

    def close(self) -> None:
        """Give up what is held; not while another thread is in a call."""
        self._stage.close()


class _Plain:
    """Samples as they are, behind a header where the format has one."""

    def __init__(self, format: str, rate: int, channels: int) -> None:
        rate = PCM_RATE if format == "pcm" else rate
        self._resampler = _resampler("s16", rate, channels)
        self._head = _wav_header(rate, channels) if format == "wav" else b""
        self._width = 2 * channels

    def encode(self, frame: av.AudioFrame | None) -> bytes:
        head, self._head = self._head, b""
        pieces = (bytes(out.planes[0])[: out.samples * self._width] for out in self._resampler.resample(frame))
        return head + b"".join(pieces)

    def finish(self) -> bytes:
        return self.encode(None)

    def close(self) -> None:
        """Nothing is held."""


class _Compressed:
    """A codec and its container, which writes into a buffer that every call empties."""

    def __init__(self, codec: _Codec, rate: int, channels: int) -> None:
        import av

        rate = _nearest(rate, codec.rates)
        self._sink = _Sink()
        self._container = av.open(self._sink, "w", format=codec.container, options={**codec.options, "flush_packets": "1"})
        settings = {"compression_level": codec.effort} if codec.effort else {}
        self._stream: Any = self._container.add_stream(codec.codec, rate=rate, layout=_layout(channels), options=settings)
        if codec.bits:
            self._stream.bit_rate = codec.bits * channels
        self._stream.codec_context.open()
        size = self._stream.codec_context.frame_size or None
        self._resampler = _resampler(self._stream.format.name, rate, channels, size)

    def encode(self, frame: av.AudioFrame | None) -> bytes:
        self._mux(self._resampler.resample(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        self._mux(self._resampler.resample(None))
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def close(self) -> None:
        """The end of the file that this writes goes nowhere."""
        self._container.close()

    def _mux(self, frames: Iterable[av.AudioFrame]) -> None:
        for frame in frames:
            self._container.mux(self._stream.encode(frame))


class _Sink:
    """A file that cannot seek."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _frame(pcm: memoryview, rate: int, channels: int) -> av.AudioFrame:
    import av

    frame = av.AudioFrame(format="s16", layout=_layout(channels), samples=len(pcm) // (2 * channels), align=1)
    frame.sample_rate = rate
    frame.planes[0].update(pcm)
    return frame


def _resampler(format: str, rate: int, channels: int, frame_size: int | None = None) -> av.AudioResampler:
    import av

    return av.AudioResampler(format=format, layout=_layout(channels), rate=rate, frame_size=frame_size)


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")


def _nearest(rate: int, rates: tuple[int, ...]) -> int:
    """The rate itself where the format has it, else the next higher one, else the highest."""
    return rate if not rates else min((known for known in rates if known >= rate), default=rates[-1])


def _wav_header(rate: int, channels: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", _UNKNOWN, b"WAVE"),
        *(b"fmt ", 16, 1, channels, rate, 2 * channels * rate, 2 * channels, 16),
        *(b"data", _UNKNOWN),
    )
