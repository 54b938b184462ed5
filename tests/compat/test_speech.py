"""Speech as clients ask for it: the openai packages and plain HTTP, a voice of its own server, and an echo that hums."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx2
import openai
import psutil
import pytest

FIVE = (
    "The rain had stopped before the morning came. A pale light lay on the roofs of the old town. Somewhere below the window "
    "a cart rolled over the stones. The baker opened his door and looked up at the sky. It was going to be a quiet day."
)
FORMATS = {
    "mp3": ("audio/mpeg", "mp3float", 22_050),
    "opus": ("audio/ogg", "opus", 48_000),
    "aac": ("audio/aac", "aac", 22_050),
    "flac": ("audio/flac", "flac", 22_050),
    "wav": ("audio/wav", "pcm_s16le", 22_050),
}
VOICE = "piper-joe"


@pytest.fixture(scope="module")
def voice_server(piper_joe_folder: Path, tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Any]:
    """A server of its own: the voice without its randomness, so that two answers are alike."""
    folder = tmp_path_factory.mktemp("voice")
    config, nothing = folder / "config.toml", folder / "nothing"
    nothing.mkdir()
    config.write_text(
        f'[models.{VOICE}]\nsource = {json.dumps(str(piper_joe_folder))}\nkind = "audio"\nthreads = 1\n'
        f'[models.{VOICE}.options]\nnoise_scale = 0.0\nnoise_w = 0.0\n[aliases]\ntts-1 = "{VOICE}"\n'
        f'[models.echo]\nsource = {json.dumps(str(nothing))}\nkind = "echo"\n'
    )
    running = type(server)(config, folder)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def speaker(voice_server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=voice_server.base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def plain(voice_server: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=voice_server.origin, timeout=120) as client:
        yield client


def read(data: bytes) -> tuple[str, int, int, float]:
    """Codec, rate, channels, and seconds."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        return stream.codec.name, stream.rate, stream.channels, samples / stream.rate


def pcm_seconds(speaker: openai.OpenAI, text: str, **fields: Any) -> float:
    return (
        len(speaker.audio.speech.create(model=VOICE, voice="alloy", input=text, response_format="pcm", **fields).content)
        / 48_000
    )


def test_mp3_is_the_default_and_any_of_openai_s_voices_speaks(speaker: openai.OpenAI) -> None:
    answer = speaker.audio.speech.create(model="tts-1", voice="shimmer", input="Hello there.", instructions="Speak softly.")
    assert answer.response.headers["content-type"] == "audio/mpeg"
    assert answer.response.headers["x-request-id"]
    assert read(answer.content)[0] == "mp3float"


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_holds_the_same_speech(speaker: openai.OpenAI, format: Any) -> None:
    answer = speaker.audio.speech.create(model=VOICE, voice="alloy", input=FIVE, response_format=format)
    media_type, codec, rate = FORMATS[format]
    assert answer.response.headers["content-type"] == media_type
    found_codec, found_rate, channels, seconds = read(answer.content)
    assert (found_codec, found_rate, channels) == (codec, rate, 1)
    assert seconds == pytest.approx(pcm_seconds(speaker, FIVE), abs=0.1)


def test_a_stream_begins_before_the_whole_is_spoken(speaker: openai.OpenAI, tmp_path: Path) -> None:
    pcm_seconds(speaker, "Hello.")
    shares = []
    for _ in range(3):
        began, times, target = time.perf_counter(), [], tmp_path / "speech.wav"
        with (
            speaker.audio.speech.with_streaming_response.create(
                model=VOICE, voice="alloy", input=FIVE, response_format="wav"
            ) as answer,
            target.open("wb") as file,
        ):
            for chunk in answer.iter_bytes():
                times.append(time.perf_counter() - began)
                file.write(chunk)
        shares.append(times[0] / times[-1])
    assert min(shares) < 1 / 3
    assert read(target.read_bytes())[3] == pytest.approx(pcm_seconds(speaker, FIVE), abs=0.1)


def test_a_stream_goes_to_a_file(speaker: openai.OpenAI, tmp_path: Path) -> None:
    with speaker.audio.speech.with_streaming_response.create(model=VOICE, voice={"id": "joe"}, input="Hello there.") as answer:
        answer.stream_to_file(tmp_path / "speech.mp3")
    assert read((tmp_path / "speech.mp3").read_bytes())[3] > 0.4


def test_the_async_client_streams_too(voice_server: Any) -> None:
    async def speak() -> bytes:
        async with openai.AsyncOpenAI(base_url=voice_server.base_url, api_key="none", max_retries=0) as client:
            asked = client.audio.speech.with_streaming_response.create(
                model=VOICE, voice="nova", input="Hello there.", response_format="flac"
            )
            async with asked as answer:
                return b"".join([chunk async for chunk in answer.iter_bytes()])

    assert read(asyncio.run(speak()))[0] == "flac"


def test_speed_is_honoured(speaker: openai.OpenAI) -> None:
    usual, fast = (pcm_seconds(speaker, FIVE, speed=speed) for speed in (1.0, 2.0))
    assert usual * 0.4 < fast < usual * 0.7  # a voice rounds each sound up to its frames


def test_events_hold_the_same_bytes_and_the_usage(plain: httpx2.Client, speaker: openai.OpenAI) -> None:
    body = {"model": VOICE, "input": FIVE, "response_format": "pcm", "stream_format": "sse"}
    answer = plain.post("/v1/audio/speech", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert len(deltas) >= 5
    sound = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert len(sound) / 48_000 == pytest.approx(pcm_seconds(speaker, FIVE), abs=0.01)
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] > 100


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"voice": "nobody"}, "voice"),
        ({"input": " "}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"input": "日本語です"}, "input"),
        ({"speed": 5}, "speed"),
        ({"response_format": "midi"}, "response_format"),
        ({"extra_body": {"language": "de"}}, "language"),
    ],
)
def test_what_cannot_be_spoken_is_a_bad_request_with_its_field(
    speaker: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        speaker.audio.speech.create(**{"model": VOICE, "voice": "alloy", "input": "Hi", **fields})
    assert caught.value.param == param


def test_a_voice_makes_no_music(plain: httpx2.Client) -> None:
    answer = plain.post("/v1/audio/generations", json={"model": VOICE, "prompt": "rain"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_a_model_of_texts_does_not_speak(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.speech.create(model=model, voice="alloy", input="Hi")
    assert (caught.value.param, caught.value.code) == ("model", "unsupported_capability")


def test_a_worker_that_dies_breaks_the_sound_off_instead_of_ending_it(
    plain: httpx2.Client, speaker: openai.OpenAI, voice_server: Any
) -> None:
    hum = {"model": "echo", "input": "[[delay=0.05]] " + "word " * 700}
    with plain.stream("POST", "/v1/audio/speech", json=hum) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        assert next(pieces)
        kill_workers(voice_server)
        with pytest.raises(httpx2.RemoteProtocolError):
            list(pieces)
    assert pcm_seconds(speaker.with_options(max_retries=6), "Well.")  # as soon as its worker may be started again


def kill_workers(server: Any) -> None:
    for process in psutil.Process(server.process.pid).children(recursive=True):
        if "openai_compat.worker" in " ".join(process.cmdline()) and process.ppid() != server.process.pid:
            process.kill()


def test_a_client_that_leaves_does_not_keep_the_voice(plain: httpx2.Client, speaker: openai.OpenAI) -> None:
    with plain.stream("POST", "/v1/audio/speech", json={"model": VOICE, "input": FIVE * 20}) as answer:
        next(answer.iter_raw())
    began = time.perf_counter()
    pcm_seconds(speaker, "Hello.")
    left = time.perf_counter() - began
    began = time.perf_counter()
    pcm_seconds(speaker, FIVE * 5)
    assert left < time.perf_counter() - began


def test_node_saves_what_is_spoken(node: Callable[..., dict[str, Any]]) -> None:
    seen = node("speech", "echo")
    assert seen["type"] == "audio/ogg"
    assert seen["bytes"] == seen["streamed"] > 1000
    assert read(base64.b64decode(seen["sound"]))[0] == "opus"
    assert seen["bad"]["param"] == "speed"
    assert seen["bad"]["status"] == 400
