"""What the process for sounds does: a stranger's sound → samples."""

from __future__ import annotations

import contextlib
import math
import resource
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from openai_compat.media.pipe import PIECE, UNREADABLE, Refused

if TYPE_CHECKING:
    import av

TOO_LONG = "too long"
NO_SOUND = "no sound"
CODEC = "codec"
SHAPE = "shape"

RATES = range(4_000, 384_001)
CHANNELS = range(1, 33)
BROKEN_PACKETS = 1_000
CODECS = (
    "aac,aac_latm,alac,flac,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,libvorbis,"
    "pcm_alaw,pcm_f32le,pcm_f64le,pcm_mulaw,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_u8,pcm_s8,"
    "adpcm_ima_wav,adpcm_ms"
)
_WAVE = struct.Struct("<4sI4s4sIHHIIHH4sI")


class AudioTask(Struct, frozen=True):
    """``seconds`` is the most of the sound that is decoded, ``cpu`` what so much of it may cost."""

    demuxer: str
    rate: int
    seconds: float
    cpu: int


def decode(data: bytes, task: msgspec.Raw) -> Iterator[bytes]:
    """The samples, in pieces of about ``PIECE`` bytes."""
    return _in_pieces(samples(data, msgspec.msgpack.decode(task, type=AudioTask)))


def samples(data: bytes, task: AudioTask) -> Iterator[bytes]:
    """The first audio stream as 16 bit samples of one channel. Raises ``Refused``, and whatever the library raises."""
    import av

    options = {"protocol_whitelist": "none", "codec_whitelist": CODECS, "format_whitelist": _formats(task.demuxer)}
    with av.open(BytesIO(data), "r", format=task.demuxer, container_options=options, io_open=_no_other) as container:
        stream: Any = _first_audio(container)
        if _claimed(container, stream, len(data)) > task.seconds:
            raise Refused(TOO_LONG)
        done, most, earned = 0, math.ceil(task.seconds * task.rate), 0
        for piece in _resampled(_frames(container, stream), task.rate):
            done += len(piece) // 2
            if done > most:
                raise Refused(TOO_LONG)
            earned = _earn(task.cpu * done // most, earned)
            yield piece
        if not done:
            raise Refused(NO_SOUND)


def _earn(seconds: int, before: int) -> int:
    """More of the processor for what was decoded: libraries take the square of the time for many marks and titles, which a file
    can be full of, so one gets little for these alone.
    """
    if seconds > before:
        soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        if soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_CPU, (soft + seconds - before, hard))
    return max(seconds, before)


def _first_audio(container: Any) -> Any:
    from av.stream import Discard

    if not container.streams.audio:
        raise Refused(NO_SOUND)
    chosen = container.streams.audio[0]
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    context = chosen.codec_context
    if context is None or context.name not in CODECS.split(","):
        raise Refused(CODEC)
    context.thread_count = 1
    return chosen


def _claimed(container: Any, stream: Any, size: int) -> float:
    """How long the sound says it is, in seconds; 0 where it does not say.

    A WAV that was written as a stream says anything, so its size tells; for MP3 the library only guesses by the first frame.
    """
    if container.format.name == "mp3":
        return 0.0
    if container.format.name == "wav":
        return size * 8 / stream.codec_context.bit_rate if stream.codec_context.bit_rate else 0.0
    return container.duration / 1_000_000 if container.duration else 0.0


def _frames(container: Any, stream: Any) -> Iterator[av.AudioFrame]:
    """What can be decoded; a broken packet is left out, as players do, but not any number of them."""
    import av

    broken = 0
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            broken += 1
            if broken > BROKEN_PACKETS:
                raise Refused(UNREADABLE) from None


def _resampled(frames: Iterator[av.AudioFrame], rate: int) -> Iterator[bytes]:
    """Sounds put one after another in a file may differ in shape: each gets a resampler."""
    import av

    shape, resampler = None, None
    for frame in frames:
        found = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if found != shape:
            if frame.sample_rate not in RATES or frame.layout.nb_channels not in CHANNELS:
                raise Refused(SHAPE)
            yield from _out(resampler, None)
            shape, resampler = found, av.AudioResampler(format="s16", layout="mono", rate=rate)
        frame.pts = None
        yield from _out(resampler, frame)
    yield from _out(resampler, None)


def _out(resampler: Any, frame: Any) -> Iterator[bytes]:
    for made in resampler.resample(frame) if resampler is not None else ():
        yield bytes(made.planes[0])[: 2 * made.samples]


def _in_pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    pending: list[bytes] = []
    size = 0
    for part in parts:
        pending.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(pending)
            pending, size = [], 0
    if pending:
        yield b"".join(pending)


def _formats(demuxer: str) -> str:
    return {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm"}.get(demuxer, demuxer)


def _no_other(*_: object) -> Any:
    """A container may name further files: there are none."""
    raise Refused(UNREADABLE)


def warm_up() -> None:
    quiet = bytes(3_200)
    head = _WAVE.pack(
        b"RIFF", 36 + len(quiet), b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", len(quiet)
    )  # fmt: skip
    task = AudioTask(demuxer="wav", rate=8_000, seconds=1.0, cpu=1)
    sum(len(piece) for piece in _in_pieces(samples(head + quiet, task)))
    with contextlib.suppress(OSError, ValueError):
        next(samples(b"ID3", msgspec.structs.replace(task, demuxer="mp3")), None)
