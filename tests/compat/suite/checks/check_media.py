"""Speech, transcriptions and images, where the server has a model that was named, by OpenAI's Python SDK and by curl."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import wave
from typing import Any

import openai
import pytest
from kit.checks import checks
from kit.curl import Curl
from kit.expect import assert_error, unless_refused
from kit.server import Server

speech = checks("openai-python", needs=("speech",))
speech_by_curl = checks("curl", needs=("speech",))
heard = checks("openai-python", needs=("transcriptions",))
heard_by_curl = checks("curl", needs=("transcriptions",))
images = checks("openai-python", needs=("images",))
TEXT = "The quick brown fox."


def spoken(client: Any, server: Server, **fields: Any) -> bytes:
    asked = {"model": server.speech_model, "voice": server.voice, "input": TEXT, **fields}
    return client.audio.speech.create(**asked).read()


@speech("speech.mp3", "Without a response_format the sound is MP3.")
def check_mp3(server: Server, openai_client: Any) -> None:
    sound = spoken(openai_client, server)
    assert sound[:3] == b"ID3" or (sound[0] == 0xFF and sound[1] & 0xE0 == 0xE0)


@speech("speech.wav", "wav is a WAV file.")
def check_wav(server: Server, openai_client: Any) -> None:
    sound = spoken(openai_client, server, response_format="wav")
    assert (sound[:4], sound[8:12]) == (b"RIFF", b"WAVE")


@speech("speech.pcm", "pcm is the samples alone, 16 bits each.")
def check_pcm(server: Server, openai_client: Any) -> None:
    sound = spoken(openai_client, server, response_format="pcm")
    assert sound[:4] != b"RIFF"
    assert len(sound) % 2 == 0
    assert len(sound) > 4800


@speech_by_curl("speech.type", "The content type is the sound's.")
def check_type(curl: Curl, server: Server) -> None:
    body = {"model": server.speech_model, "voice": server.voice, "input": TEXT, "response_format": "wav"}
    assert curl.post("/audio/speech", body).headers.get_content_type() in {"audio/wav", "audio/x-wav", "audio/wave"}


@speech_by_curl("speech.sse", "stream_format sse gives speech.audio.delta with base64, and speech.audio.done.")
def check_sse(curl: Curl, server: Server) -> None:
    body = {
        "model": server.speech_model,
        "voice": server.voice,
        "input": TEXT,
        "response_format": "pcm",
        "stream_format": "sse",
    }
    events = [json.loads(data) for _, data in curl.post("/audio/speech", body).events() if data != "[DONE]"]
    assert {event["type"] for event in events} == {"speech.audio.delta", "speech.audio.done"}
    assert b"".join(base64.b64decode(event["audio"]) for event in events if "audio" in event)


@speech("speech.error.format", "An unknown response_format is a 400.")
def check_unknown_format(server: Server, openai_client: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        spoken(openai_client, server, response_format="gramophone")


@speech_by_curl("speech.error.empty", "An empty input is a 400.")
def check_empty(curl: Curl, server: Server) -> None:
    assert_error(curl.post("/audio/speech", {"model": server.speech_model, "voice": server.voice, "input": ""}), 400)


def tone(seconds: float = 1.0) -> bytes:
    """A WAV file that nobody says anything in: what is heard there is the model's own, the shape of the answer is not."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        samples = (int(8000 * math.sin(2 * math.pi * 440 * at / 16000)) for at in range(int(16000 * seconds)))
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()


def transcribed(client: Any, server: Server, name: str = "tone.wav", **fields: Any) -> Any:
    return client.audio.transcriptions.create(model=server.transcription_model, file=(name, tone()), **fields)


@heard("transcriptions.json", "A transcription is an object with its text.")
def check_json(server: Server, openai_client: Any) -> None:
    assert isinstance(transcribed(openai_client, server).text, str)


@heard("transcriptions.no-extension", "The file's name may have no extension.")
def check_no_extension(server: Server, openai_client: Any) -> None:
    assert isinstance(transcribed(openai_client, server, name="blob").text, str)


@heard("transcriptions.verbose", "verbose_json has the duration and segments.")
def check_verbose(server: Server, openai_client: Any) -> None:
    with unless_refused("response_format", "verbose_json"):
        found = transcribed(openai_client, server, response_format="verbose_json")
    assert 0.5 < float(found.duration) < 1.5
    assert isinstance(found.segments, list)


@heard("transcriptions.words", "timestamp_granularities[] gives words with their times.")
def check_words(server: Server, openai_client: Any) -> None:
    with unless_refused("timestamp_granularities", "verbose_json"):
        found = transcribed(openai_client, server, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert isinstance(found.words, list)


@heard_by_curl("transcriptions.text", "text, srt and vtt are plain text, no JSON.")
def check_text(curl: Curl, server: Server) -> None:
    for kind in ("text", "srt", "vtt"):
        answer = sent(curl, "model", server.transcription_model, "response_format", kind)
        assert answer.status == 200
        assert answer.headers.get_content_type().startswith("text/")


@heard("transcriptions.stream", "A stream is transcript.text.delta and one transcript.text.done with the whole text.")
def check_stream(server: Server, openai_client: Any) -> None:
    with unless_refused("stream"):
        events = list(transcribed(openai_client, server, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == events[-1].text


@heard_by_curl("transcriptions.error.file", "A file that is no sound is a 400 with OpenAI's error body.")
def check_no_sound(curl: Curl, server: Server) -> None:
    assert_error(sent(curl, "model", server.transcription_model, sound=b"no sound at all"), 400)


@heard_by_curl("transcriptions.error.missing", "A form without a file is a 400 with OpenAI's error body.")
def check_no_file(curl: Curl, server: Server) -> None:
    assert_error(curl.run("/audio/transcriptions", "-F", f"model={server.transcription_model}"), 400)


def sent(curl: Curl, *pairs: str, sound: bytes | None = None) -> Any:
    words = [word for name, value in zip(pairs[::2], pairs[1::2], strict=True) for word in ("-F", f"{name}={value}")]
    return curl.run("/audio/transcriptions", *words, "-F", "file=@-;filename=a.wav", data=tone() if sound is None else sound)


@images("images.b64", "An image comes as base64 of a picture.")
def check_image(server: Server, openai_client: Any) -> None:
    with unless_refused("size"):
        found = openai_client.images.generate(
            model=server.image_model, prompt="a red circle", extra_body={"response_format": "b64_json"}
        )
    assert base64.b64decode(found.data[0].b64_json)[:4] in {b"\x89PNG", b"\xff\xd8\xff\xe0", b"RIFF"}


@images("images.n", "n=2 gives two images.")
def check_two(server: Server, openai_client: Any) -> None:
    with unless_refused("n"):
        found = openai_client.images.generate(model=server.image_model, prompt="a red circle", n=2)
    assert len(found.data) == 2


@images("images.error.n", "n=0 is a 400.")
def check_none(server: Server, openai_client: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        openai_client.images.generate(model=server.image_model, prompt="a red circle", n=0)
