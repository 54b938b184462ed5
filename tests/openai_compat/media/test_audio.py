"""Sounds that are decoded, sounds that are refused, and what it may cost to find out."""

from __future__ import annotations

import array
import asyncio
import contextlib
import io
import math
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from openai_compat.errors import InvalidRequest, Unavailable
from openai_compat.media import children as module
from openai_compat.media.decoder import AudioLimits, MediaDecoder

RATE = 16_000
KINDS = ["wav", "flac", "mp3", "ogg opus", "ogg vorbis", "ogg flac", "m4a", "mp4", "alac", "webm", "mka"]
SHORT = AudioLimits(seconds=2.0)
PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


def pitch(pcm: bytes) -> float:
    """Zero crossings a second, halved."""
    values = array.array("h", pcm)[RATE // 10 : -RATE // 10]
    crossings = sum((a < 0) != (b < 0) for a, b in pairwise(values))
    return crossings / 2 / (len(values) / RATE)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# ---------------------------------------------------------------- what is taken


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_the_same_sound(bench, make, kind) -> None:
    sound = bench.decode(make(kind, 1.0))
    assert (sound.rate, sound.channels) == (RATE, 1)
    assert sound.seconds == pytest.approx(1.0, abs=0.08)
    assert pitch(sound.pcm) == pytest.approx(440, abs=5)


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_the_rate_is_the_one_asked_for(bench, make, rate) -> None:
    assert bench.decode(make("flac", 0.5), rate=rate).seconds == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_all_channels_become_one(bench, make_wav, make_tone, channels) -> None:
    sound = bench.decode(make_wav(make_tone(0.5, RATE, channels), RATE, channels))
    assert sound.seconds == pytest.approx(0.5, abs=0.01)
    assert pitch(sound.pcm) == pytest.approx(440, abs=10)


@pytest.mark.parametrize("rate", [8_000, 96_000, 192_000, 384_000])
def test_high_and_low_rates(bench, make_wav, make_tone, rate) -> None:
    sound = bench.decode(make_wav(make_tone(0.5, rate), rate))
    assert sound.seconds == pytest.approx(0.5, abs=0.01)
    assert pitch(sound.pcm) == pytest.approx(440, abs=10)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_a_wav_that_was_written_as_a_stream_lies_about_its_length(bench, make_wav, make_tone, size) -> None:
    sound = bench.decode(make_wav(make_tone(1.0, RATE), data_size=size), limits=SHORT)
    assert sound.seconds == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg opus", "webm"])
def test_of_a_sound_that_was_cut_off_the_beginning_is_heard(bench, make, kind) -> None:
    whole = make(kind, 2.0)
    assert 0.3 < bench.decode(whole[: len(whole) // 2]).seconds < 1.7


def test_a_cover_is_not_looked_at(bench) -> None:
    assert bench.decode(with_cover()).seconds == pytest.approx(1.0, abs=0.1)


def with_cover() -> bytes:
    """An MP4 whose first stream is a picture that no decoder would survive."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        picture = output.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        stream = output.add_stream("aac", rate=48_000, layout="mono")
        for _ in range(47):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.sample_rate = 48_000
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        image = av.VideoFrame(16, 16, "yuvj420p")
        image.pts = 0
        output.mux(picture.encode(image))
        output.mux(picture.encode(None))
    data = bytearray(buffer.getvalue())
    start = data.index(b"\xff\xd8\xff")
    data[start : start + 64] = b"\xa5" * 64
    return bytes(data)


# ---------------------------------------------------------------- what is refused


def test_hours_of_silence_in_a_small_file_are_refused_at_once(bench) -> None:
    bomb = silence(hours=10)
    assert len(bomb) < 6 << 20
    bench.decode(silence(hours=0.001))
    (process,) = map(psutil.Process, bench.pids())
    before = sum(process.cpu_times()[:2])
    assert "1800 seconds" in bench.refusal(bomb).message
    assert sum(process.cpu_times()[:2]) - before < 0.5  # half an hour of it takes three times as long


def test_a_bomb_that_says_it_is_short_is_stopped_while_it_is_decoded(bench) -> None:
    bomb = bytearray(silence(hours=1))
    last = bomb.rindex(b"OggS")
    struct.pack_into("<q", bomb, last + 6, 48_000)
    error = bench.refusal(mended(bytes(bomb), last), limits=AudioLimits(seconds=60))
    assert "60 seconds" in error.message


def titled(flac: bytes, count: int) -> bytes:
    """The same sound with so many titles, each of another kind, in a block of Vorbis comments behind the first block."""
    titles = b"".join(struct.pack("<I", 9) + b"%07d=x" % number for number in range(count))
    block = struct.pack("<II", 0, count) + titles
    first = 4 + 4 + 34
    rest = flac[first:]
    return flac[:4] + bytes([flac[4] & 0x7F]) + flac[5:first] + b"\x04" + len(block).to_bytes(3, "big") + block + rest


def test_a_file_full_of_titles_gets_little_time_for_them(bench, make) -> None:
    """The library looks each of them up among all others: 13 MB of them would take a processor for minutes."""
    sound = make("flac", 0.5)
    assert bench.decode(titled(sound, 1000), limits=AudioLimits(head=1)).seconds == pytest.approx(0.5, abs=0.01)
    assert "limits" in bench.refusal(titled(sound, 1_000_000), limits=AudioLimits(head=1)).message


def test_time_is_earned_by_what_is_decoded(bench) -> None:
    limits, granted = AudioLimits(head=7, cpu=1000), []
    for hours in (0.001, 0.1):
        bench.decode(silence(hours), limits=limits)
        (process,) = map(psutil.Process, bench.pids())
        granted.append(process.rlimit(resource.RLIMIT_CPU)[0] - math.ceil(sum(process.cpu_times()[:2])))
    assert 4 <= granted[0] <= 9
    assert 198 <= granted[1] <= 207


def silence(hours: float) -> bytes:
    """Ogg Opus: one packet of 60 ms of silence, over and over."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg", options={"page_duration": "60000000"}) as output:
        stream = output.add_stream("libopus", rate=48_000, layout="mono", options={"frame_duration": "60", "vbr": "on"})
        frame = av.AudioFrame(format="flt", layout="mono", samples=2880)
        frame.sample_rate = 48_000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        (packet,) = [packet for _ in range(2) for packet in stream.encode(frame)][:1]
        data = bytes(packet)
        for number in range(int(hours * 60_000)):
            again = av.Packet(data)
            again.stream, again.time_base = stream, packet.time_base
            again.pts = again.dts = number * 2880
            again.duration = 2880
            output.mux(again)
    return buffer.getvalue()


def mended(data: bytes, page: int) -> bytes:
    """The checksum of the page at ``page`` made right again."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = ((value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    blank = data[page : page + 22] + bytes(4) + data[page + 26 :]
    check = 0
    for byte in blank:
        check = ((check << 8) & 0xFFFFFFFF) ^ table[(check >> 24) ^ byte]
    return data[: page + 22] + struct.pack("<I", check) + data[page + 26 :]


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_the_limit_is_refused(bench, make, kind) -> None:
    assert "2 seconds" in bench.refusal(make(kind, 3.0, rate=48_000), limits=SHORT).message


def test_an_mp3_whose_length_the_library_guesses_wrong_is_heard(bench, make) -> None:
    sound = make("mp3", 0.2, bit_rate=32_000) + make("mp3", 1.5, bit_rate=320_000)
    assert len(sound) * 8 / 32_000 > 10
    assert bench.decode(sound, limits=SHORT).seconds == pytest.approx(1.7, abs=0.2)


def test_a_flac_that_says_it_is_short_is_stopped_where_the_limit_is(bench, make) -> None:
    data = bytearray(make("flac", 5.0))
    block = data.index(b"fLaC") + 8
    data[block + 13] &= 0xF0
    struct.pack_into(">I", data, block + 14, 48_000)
    assert "2 seconds" in bench.refusal(bytes(data), limits=SHORT).message


@pytest.mark.parametrize("rate", [0, 1, 100, 3_999, 384_001, 2**31 - 1, 2**32 - 1])
def test_rates_that_no_sound_has(bench, make_wav, rate) -> None:
    data = bytearray(make_wav(bytes(32_000)))
    struct.pack_into("<II", data, 24, rate, (2 * rate) % 2**32)
    bench.refusal(bytes(data))


@pytest.mark.parametrize("channels", [0, 33, 1000, 65535])
def test_numbers_of_channels_that_no_sound_has(bench, make_wav, channels) -> None:
    data = bytearray(make_wav(bytes(260_000)))
    struct.pack_into("<H", data, 22, channels)
    struct.pack_into("<H", data, 32, (2 * channels) % 65536)
    bench.refusal(bytes(data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_without_sound_is_refused(bench, make, kind) -> None:
    whole = make(kind, 0.5)
    bench.refusal(whole[:60])


def test_no_samples_are_no_sound(bench, make_wav) -> None:
    assert "no sound" in bench.refusal(make_wav(b"")).message


def test_a_film_without_sound_is_refused(bench) -> None:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        picture = output.add_stream("mpeg4", rate=5, width=16, height=16, pix_fmt="yuv420p")
        output.mux(picture.encode(av.VideoFrame(16, 16, "yuv420p")))
        output.mux(picture.encode(None))
    assert "no sound" in bench.refusal(buffer.getvalue()).message


def test_a_codec_that_is_not_on_the_list_is_refused(bench) -> None:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("ac3", rate=48_000, layout="mono")
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1536)
        frame.sample_rate = 48_000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    bench.refusal(buffer.getvalue())


MAGICS = {
    "wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "flac": b"fLaC\0\0\0\x22", "ogg": b"OggS\0\x02", "mp3": b"ID3\x04\0\0\0\0\0\0",
    "frames": b"\xff\xfb\x90\x64", "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "webm": b"\x1a\x45\xdf\xa3",
}  # fmt: skip


@pytest.mark.parametrize("name", MAGICS)
@pytest.mark.parametrize("tail", ["nothing", "zeros", "ones", "noise", "text"])
def test_garbage_behind_a_good_beginning(bench, name, tail) -> None:
    chance = random.Random(name + tail)
    tails = {
        "nothing": b"",
        "zeros": bytes(50_000),
        "ones": b"\xff" * 50_000,
        "noise": chance.randbytes(50_000),
        "text": b"http://127.0.0.1/ file:///etc/passwd\n" * 1000,
    }
    with contextlib.suppress(InvalidRequest):
        assert bench.decode(MAGICS[name] + tails[tail]).seconds < 1800


def test_a_film_that_names_another_file_for_its_sound_opens_nothing(bench, make, tmp_path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"RIFF")
    data = make("mp4", 0.5)
    reference = struct.pack(">I4sI", 12 + len(str(secret)) + 1, b"url ", 0) + str(secret).encode() + b"\0"
    plain = struct.pack(">I4sI", 12, b"url ", 1)
    assert plain in data
    before = secret.stat().st_atime_ns
    bench.refusal(data.replace(plain, reference, 1)[:-10])
    assert secret.stat().st_atime_ns == before


# ---------------------------------------------------------------- broken in every way


def mutated(data: bytes, chance: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.choice((1, 3, 20))):
        place = chance.randrange(min(len(broken), chance.choice((64, 512, len(broken)))))
        broken[place] = chance.choice((0, 0xFF, 0x7F, chance.randrange(256), broken[place] ^ 1 << chance.randrange(8)))
    if chance.random() < 0.2:
        del broken[chance.randrange(len(broken)) :]
    return bytes(broken)


def fuzz(bench, data: bytes, rounds: int, seed: str) -> None:
    chance = random.Random(seed)
    limits = AudioLimits(seconds=30.0, wall=20.0, cpu=10)
    for _ in range(rounds):
        with contextlib.suppress(InvalidRequest):
            assert bench.decode(mutated(data, chance), limits=limits).seconds <= 30.0


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_give_a_sound_or_a_refusal(bench, make, kind) -> None:
    fuzz(bench, make(kind, 0.3), 25, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_flipped_bits_give_a_sound_or_a_refusal(bench, make, kind) -> None:
    fuzz(bench, make(kind, 0.3), 500, kind + "more")


# ---------------------------------------------------------------- the process


def test_the_process_can_open_nothing_and_has_its_limits(bench, make_wav) -> None:
    limits = AudioLimits(memory=200 << 20, head=17)
    data = make_wav(bytes(3200))
    bench.decode(data, limits=limits)
    (pid,) = bench.pids()
    assert set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2"}
    limit = psutil.Process(pid).rlimit
    assert limit(resource.RLIMIT_NOFILE) == (3, 3)
    assert limit(resource.RLIMIT_FSIZE) == (0, 0)
    assert limit(resource.RLIMIT_CORE) == (0, 0)
    assert 17 <= limit(resource.RLIMIT_CPU)[0] < 60
    room = limit(resource.RLIMIT_AS)[0] - psutil.Process(pid).memory_info().vms
    assert 0 < room < (200 << 20) + len(data) + (64 << 20)


def test_the_process_knows_no_secret_of_the_servers(make_wav, monkeypatch) -> None:
    async def scenario() -> bytes:
        decoder = MediaDecoder()
        await decoder.decode_audio(make_wav(bytes(3200)), rate=RATE)
        environment = Path(f"/proc/{decoder.audio.idle[0].pid}/environ").read_bytes()
        await decoder.close()
        return environment

    monkeypatch.setenv("OPENAI_COMPAT_API_KEY", "sk-very-secret")
    assert b"secret" not in asyncio.run(scenario())


def test_one_process_serves_many_sounds_and_is_replaced_after_a_while(bench, make_wav, monkeypatch) -> None:
    data = make_wav(bytes(3200))
    bench.decode(data)
    (first,) = bench.pids()
    bench.decode(data)
    assert bench.pids() == [first]
    monkeypatch.setattr(module, "USES", 1)
    bench.decode(data)
    assert bench.pids() == []
    wait_until(lambda: gone(first))


def test_a_process_that_was_killed_is_replaced(bench, make_wav) -> None:
    data = make_wav(bytes(3200))
    bench.decode(data)
    (pid,) = bench.pids()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid))
    assert bench.decode(data).seconds == 0.1
    assert bench.pids() != [pid]


def test_a_process_killed_at_its_work_is_not_the_sound_s_fault(bench, make_wav, monkeypatch) -> None:
    data = make_wav(bytes(3200))
    decode = module.Child.decode

    def killed(child, order, data):
        child._process.kill()
        return decode(child, order, data)

    with monkeypatch.context() as patched:
        patched.setattr(module.Child, "decode", killed)
        with pytest.raises(Unavailable):
            bench.decode(data)
    assert bench.decode(data).seconds == 0.1


def test_too_little_memory_is_a_refusal(bench, make) -> None:
    bench.refusal(make("flac", 1.0), limits=AudioLimits(memory=1 << 10))
    assert bench.decode(make("flac", 0.5)).seconds == pytest.approx(0.5, abs=0.01)


def test_the_room_for_a_sound_grows_with_its_file(bench, make_wav) -> None:
    limits = AudioLimits(memory=64 << 20)
    assert bench.decode(make_wav(bytes(3200)), limits=limits).seconds == 0.1
    large = make_wav(bytes(96 << 20), 48_000, 2)
    assert bench.decode(large, limits=limits).seconds == pytest.approx((24 << 20) / 48_000, abs=0.01)


def test_too_little_time_is_a_refusal(bench, make) -> None:
    assert "limits" in bench.refusal(make("flac", 1.0), limits=AudioLimits(wall=0.0)).message
    assert bench.decode(make("flac", 0.5)).seconds == pytest.approx(0.5, abs=0.01)


def test_sounds_side_by_side_are_not_mixed_up(make_wav) -> None:
    async def scenario() -> None:
        decoder = MediaDecoder()
        sounds = [make_wav(struct.pack("<h", number) * 1600 * number) for number in range(1, 9)]
        heard = await asyncio.gather(*(decoder.decode_audio(sound, rate=RATE) for sound in sounds))
        assert [sound.pcm for sound in heard] == [sound[44:] for sound in sounds]
        assert len(decoder.audio.idle) <= module.SIDE_BY_SIDE
        pids = [child.pid for child in decoder.audio.idle]
        await decoder.close()
        assert all(gone(pid) for pid in pids)

    asyncio.run(scenario())


def test_who_stops_waiting_stops_the_process(make) -> None:
    async def scenario() -> None:
        decoder = MediaDecoder()
        before = {child.pid for child in psutil.Process().children()}
        waiting = asyncio.ensure_future(decoder.decode_audio(make("flac", 60.0), rate=RATE))
        while not {child.pid for child in psutil.Process().children()} - before:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert {child.pid for child in psutil.Process().children()} == before
        assert (await decoder.decode_audio(make("flac", 0.5), rate=RATE)).seconds == pytest.approx(0.5, abs=0.01)
        await decoder.close()

    asyncio.run(scenario())


PROGRAM = """
import asyncio, sys
from openai_compat.media.decoder import MediaDecoder

async def main():
    decoder = MediaDecoder()
    await decoder.decode_audio(sys.stdin.buffer.read(), rate=16000)
    print(decoder.audio.idle[0].pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_killed_worker_leaves_no_process(make_wav) -> None:
    command = [sys.executable, "-P", "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        worker.stdin.write(make_wav(bytes(3200)))
        worker.stdin.close()
        child = int(worker.stdout.readline())
        assert not gone(child)
        worker.kill()
    wait_until(lambda: gone(child))


def test_a_models_options_set_the_length_and_the_time_that_goes_with_it() -> None:
    assert AudioLimits.of({}) == AudioLimits()
    assert AudioLimits.of({"max_audio_seconds": 60}).seconds == 60
    assert AudioLimits.of({"max_audio_seconds": 7200}) == AudioLimits(seconds=7200, cpu=240, wall=480)
