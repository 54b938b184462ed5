"""The process that strangers' sounds are decoded in: bounded memory and time, no files, no network, one sound after another.

It reads an ``Order`` and the sound from standard input, and answers with pieces of samples, an empty piece, and a word: ``""``
when all went well. It ends when its standard input does, in the middle of a sound too.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import struct
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import av

MODULE = "openai_compat.media.audio_child"
READY = "ready"
TOO_LONG = "too long"
NO_SOUND = "no sound"
UNREADABLE = "unreadable"
CODEC = "codec"
SHAPE = "shape"

PIECE = 1 << 20
HANDLES = 3  # standard input, output and error, and never one more
RATES = range(4_000, 384_001)
CHANNELS = range(1, 33)
BROKEN_PACKETS = 1_000
CODECS = (
    "aac,aac_latm,alac,flac,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,libvorbis,"
    "pcm_alaw,pcm_f32le,pcm_f64le,pcm_mulaw,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_u8,pcm_s8,"
    "adpcm_ima_wav,adpcm_ms"
)
_LENGTH = struct.Struct("!I")
_WAVE = struct.Struct("<4sI4s4sIHHIIHH4sI")


class Order(Struct, frozen=True):
    """What comes before each sound of ``size`` bytes. ``seconds`` is the most of it that is decoded; ``cpu`` is seconds too."""

    size: int
    demuxer: str
    rate: int
    seconds: float
    memory: int
    cpu: int


class Refused(Exception):
    """``args[0]`` is one of this module's words."""


def write(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def read(pipe: IO[bytes]) -> bytes:
    """One message. Raises ``EOFError`` where the other side has ended."""
    return read_exactly(pipe, _LENGTH.unpack(read_exactly(pipe, _LENGTH.size))[0])


def read_exactly(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) != count:
        raise EOFError
    return data


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the worker decides when this ends
    question, answer = sys.stdin.buffer, sys.stdout.buffer
    threading.Thread(target=_end_with_input, daemon=True).start()
    _warm_up()
    addresses = _addresses()
    _lock_up()
    write(answer, READY.encode())
    while True:
        try:
            order = msgspec.msgpack.decode(read(question), type=Order)
            _bound(order, addresses)
            data = read_exactly(question, order.size)
        except EOFError:
            return
        word = _decode(data, order, answer)
        write(answer, b"")
        write(answer, word.encode())


def _decode(data: bytes, order: Order, answer: IO[bytes]) -> str:
    """Any failure on a stranger's bytes is their fault; what a library says about it may tell more than they know."""
    try:
        for piece in _in_pieces(samples(data, order)):
            write(answer, piece)
    except Refused as refused:
        return str(refused)
    except Exception:
        return UNREADABLE
    return ""


def samples(data: bytes, order: Order) -> Iterator[bytes]:
    """The first audio stream as 16 bit samples of one channel. Raises ``Refused``, and whatever the library raises."""
    import av

    options = {"protocol_whitelist": "none", "codec_whitelist": CODECS, "format_whitelist": _formats(order.demuxer)}
    with av.open(BytesIO(data), "r", format=order.demuxer, container_options=options, io_open=_no_other) as container:
        stream: Any = _first_audio(container)
        if _claimed(container, stream, len(data)) > order.seconds:
            raise Refused(TOO_LONG)
        done, most = 0, math.ceil(order.seconds * order.rate)
        for piece in _resampled(_frames(container, stream), order.rate):
            done += len(piece) // 2
            if done > most:
                raise Refused(TOO_LONG)
            yield piece
        if not done:
            raise Refused(NO_SOUND)


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


def _warm_up() -> None:
    """Decode a little, so that nothing has to be imported, or opened, later."""
    quiet = bytes(3_200)
    head = _WAVE.pack(
        b"RIFF", 36 + len(quiet), b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", len(quiet)
    )  # fmt: skip
    order = Order(size=0, demuxer="wav", rate=8_000, seconds=1.0, memory=0, cpu=0)
    sum(len(piece) for piece in _in_pieces(samples(head + quiet, order)))
    with contextlib.suppress(OSError, ValueError):
        next(samples(b"ID3", msgspec.structs.replace(order, demuxer="mp3")), None)


def _lock_up() -> None:
    """From here on nothing can be opened, forked or written to disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (HANDLES, HANDLES))


def _bound(order: Order, addresses: int) -> None:
    """Limits for one sound, on top of what the process had before the first: bytes of addresses, and seconds of processor."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + order.cpu, resource.RLIM_INFINITY))
    if addresses:
        resource.setrlimit(resource.RLIMIT_AS, (addresses + order.memory + order.size, resource.RLIM_INFINITY))


def _addresses() -> int:
    """Bytes of address space in use; 0 where the system does not say, and does not limit it either."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _end_with_input() -> None:
    """The other end of standard input is closed by its process's end, whatever that is."""
    poll = select.poll()
    poll.register(0, 0)
    poll.poll()
    os._exit(0)


if __name__ == "__main__":
    main()
