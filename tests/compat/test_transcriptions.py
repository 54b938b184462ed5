"""Whisper base behind the real server: real speech in every format and container, by unchanged clients."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx2
import openai
import pytest

SAID = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
CONTAINERS = {
    "mp3": ("mp3", "libmp3lame"),
    "m4a": ("mp4", "aac"),
    "ogg": ("ogg", "libopus"),
    "webm": ("webm", "libopus"),
    "flac": ("flac", "flac"),
}
CUE = re.compile(r"\d\d:\d\d:\d\d[.,]\d{3} --> \d\d:\d\d:\d\d[.,]\d{3}\n")


def words_of(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def packed(recording: bytes, container: str, codec: str) -> bytes:
    """The recording in another container, at the rate that most files have."""
    file = io.BytesIO()
    with wave.open(io.BytesIO(recording)) as source, av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame(format="s16", layout="mono", samples=source.getnframes())
        frame.planes[0].update(source.readframes(source.getnframes()))
        frame.rate = source.getframerate()
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=48_000, frame_size=stream.codec_context.frame_size
        )
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="module")
def hearing(whisper_base_folder: Path, tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("hearing")
    config, nothing = folder / "config.toml", folder / "nothing"
    nothing.mkdir()
    config.write_text(
        f"[models.whisper-base]\nsource = {json.dumps(str(whisper_base_folder))}\n"
        f'[models.echo]\nsource = {json.dumps(str(nothing))}\nkind = "echo"\n[aliases]\nwhisper-1 = "whisper-base"\n'
    )
    running = type(server)(config, folder)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def ears(hearing: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=hearing.base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def plain(hearing: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=hearing.origin, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def speech(jfk_wav: Path) -> bytes:
    return jfk_wav.read_bytes()


def test_every_word_is_right_in_all_five_formats(ears: openai.OpenAI, speech: bytes) -> None:
    def hear(**fields: Any) -> Any:
        return ears.audio.transcriptions.create(model="whisper-1", file=("talk.wav", speech), **fields)

    answer = hear()
    assert words_of(answer.text) == SAID
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 11.0)
    assert words_of(hear(response_format="text")) == SAID
    for form in ("srt", "vtt"):
        subtitles = hear(response_format=form)
        assert len(CUE.findall(subtitles)) >= 1
        assert words_of(CUE.sub("", subtitles).removeprefix("WEBVTT")) == SAID
    verbose = hear(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert (verbose.language, verbose.duration) == ("english", 11.0)
    assert words_of(" ".join(word.word for word in verbose.words)) == SAID
    assert words_of("".join(segment.text for segment in verbose.segments)) == SAID
    assert all(0 <= word.start < word.end <= 11.0 for word in verbose.words)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_heard_whatever_the_file_is_called(ears: openai.OpenAI, speech: bytes, name: str) -> None:
    recording = packed(speech, *CONTAINERS[name])
    answer = ears.audio.transcriptions.create(model="whisper-base", file=("blob", recording), language="en")
    assert words_of(answer.text) == SAID


def test_a_stream_is_read_by_the_sdk_s_own_types(ears: openai.OpenAI, speech: bytes) -> None:
    from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

    with ears.audio.transcriptions.create(model="whisper-1", file=("a.wav", speech), stream=True) as stream:
        *deltas, done = list(stream)
    assert all(isinstance(event, TranscriptionTextDeltaEvent) for event in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(event.delta for event in deltas) == done.text
    assert words_of(done.text) == SAID
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 550


def test_segments_of_a_stream_have_their_times(ears: openai.OpenAI, speech: bytes) -> None:
    stream = ears.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", speech), stream=True, response_format="verbose_json"
    )
    segments = [event for event in stream if event.type == "transcript.text.segment"]
    assert words_of("".join(segment.text for segment in segments)) == SAID
    assert all(0 <= segment.start < segment.end <= 11.0 for segment in segments)


def test_a_translation_is_made_by_the_same_model(ears: openai.OpenAI, speech: bytes) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):  # OpenAI ends its own in 2027
        answer = ears.audio.translations.create(model="whisper-1", file=("a.wav", speech), response_format="verbose_json")
    assert answer.language == "english"
    assert "country" in answer.text


def test_json_with_the_recording_inside_is_heard_too(plain: httpx2.Client, speech: bytes) -> None:
    inside = {"data": base64.b64encode(speech).decode(), "format": "wav"}
    answer = plain.post("/v1/audio/transcriptions", json={"model": "whisper-1", "input_audio": inside})
    assert answer.status_code == 200, answer.text
    assert words_of(answer.json()["text"]) == SAID


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"include": ["logprobs"]}, "include"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"language": "xx"}, "language"),
        ({"temperature": 7}, "temperature"),
        ({"model": "echo:shouting"}, None),
    ],
)
def test_what_cannot_be_done_is_a_400_that_names_it(ears: openai.OpenAI, speech: bytes, fields: Any, param: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ears.audio.transcriptions.create(**{"model": "whisper-1", "file": ("a.wav", speech), **fields})
    assert param is None or refused.value.param == param


def test_a_model_that_hears_neither_speaks_nor_chats(ears: openai.OpenAI, plain: httpx2.Client) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support"):
        ears.audio.speech.create(model="whisper-1", voice="alloy", input="Hello")
    with pytest.raises(openai.BadRequestError, match="does not support"):
        ears.chat.completions.create(model="whisper-1", messages=[{"role": "user", "content": "Hello"}])
    assert plain.get("/v1/models/whisper-base").json()["capabilities"] == ["process_audio"]


def test_node_hears_the_same(hearing: Any, node_folder: Path, jfk_wav: Path) -> None:
    command = ["node", "client.mjs", hearing.base_url, "whisper-1", "transcription", str(jfk_wav)]
    done = subprocess.run(command, cwd=node_folder, check=True, capture_output=True, timeout=120)
    seen = json.loads(done.stdout)
    assert words_of(seen["json"]["text"]) == words_of(seen["events"]["text"]) == SAID
    assert words_of(CUE.sub("", seen["srt"])) == SAID
    assert words_of(" ".join(word["word"] for word in seen["verbose"]["words"])) == SAID
    assert seen["events"]["types"][-1] == "transcript.text.done"
    assert (seen["bad"]["status"], seen["bad"]["param"]) == (400, "response_format")
