"""The routes of recordings, around the echo handler: it hears the same words in everything."""

from __future__ import annotations

import base64
import io
import json
import wave

import pytest
from litestar import Litestar

from handlers import types as t
from openai_compat.app import model_dependencies
from openai_compat.errors import APIError
from openai_compat.http.openapi import openapi_config
from openai_compat.http.sse import StreamTiming
from routes.transcriptions import TranscriptionController

TRANSCRIPTIONS, TRANSLATIONS, CLASSIFICATIONS = (
    f"/v1/audio/{name}" for name in ("transcriptions", "translations", "classifications")
)


def wav(seconds: float = 0.5, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(bytes(2 * round(seconds * rate)))
    return file.getvalue()


async def form(worker, path: str, *, file: bytes = b"", headers: dict | None = None, **fields):
    files = {"file": ("blob", file or wav(), "application/octet-stream")}
    return await worker.client.post(path, data={"model": "m", **fields}, files=files, headers=headers or worker.headers)


def events_of(text: str) -> list[dict]:
    return [json.loads(frame.removeprefix("data: ")) for frame in text.split("\n\n") if frame.startswith("data: ")]


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
def test_a_form_and_json_are_answered_alike(serve, path) -> None:
    async def scenario(worker):
        first = await form(worker, path)
        inside = {"data": base64.b64encode(wav()).decode(), "format": "wav"}
        second = await worker.post(path, input_audio=inside)
        assert first.status_code == second.status_code == 200, first.text
        assert first.json() == second.json()
        assert first.json()["usage"] == {"type": "duration", "seconds": 0.5}
        assert first.json()["text"]
        one, two = worker.handler.seen
        assert one == two
        assert one.task == {TRANSCRIPTIONS: "transcribe", TRANSLATIONS: "translate"}[path]

    serve(scenario)


def test_the_recording_reaches_the_handler_at_its_rate_with_the_fields_of_the_form(serve) -> None:
    async def scenario(worker):
        fields = {
            "language": "German",
            "temperature": "0.25",
            "prompt": "P",
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"],
            "chunking_strategy[type]": "server_vad",
            "chunking_strategy[threshold]": "0.5",
            "stream": "false",
            "keywords[]": ["a", "b"],
        }
        answer = await form(worker, TRANSCRIPTIONS, **fields)
        assert answer.status_code == 200, answer.text
        (seen,) = worker.handler.seen
        assert (seen.audio.rate, seen.audio.channels, seen.audio.seconds) == (16_000, 1, 0.5)
        assert (seen.language, seen.temperature, seen.prompt) == ("de", 0.25, "P")
        assert (seen.timestamps, seen.keywords) == (("word", "segment"), ("a", "b"))
        assert seen.voice_activity == t.VoiceActivity(threshold=0.5)

    serve(scenario)


@pytest.mark.parametrize(
    ("format", "beginning"), [("text", "0.5"), ("srt", "1\n00:00:00,000 --> "), ("vtt", "WEBVTT\n\n00:00:00.000 --> ")]
)
def test_texts_are_plain_text(serve, format, beginning) -> None:
    async def scenario(worker):
        answer = await form(worker, TRANSCRIPTIONS, response_format=format)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text.endswith("\n")
        assert format == "text" or answer.text.startswith(beginning)

    serve(scenario)


def test_a_stream_is_deltas_and_a_last_word(serve) -> None:
    async def scenario(worker):
        whole = (await form(worker, TRANSCRIPTIONS)).json()["text"]
        answer = await form(worker, TRANSCRIPTIONS, stream="true")
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, done = events_of(answer.text)
        assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
        assert "".join(delta["delta"] for delta in deltas) == done["text"] == whole
        assert done["type"] == "transcript.text.done"

    serve(scenario)


def test_a_failure_after_the_stream_began_is_its_last_event(serve) -> None:
    async def scenario(worker):
        def failing(request, ctx):
            ctx.emit(t.TextDelta(index=0, text="one"))
            raise APIError("broken")

        worker.handler.process_audio = failing
        first, last = events_of((await form(worker, TRANSCRIPTIONS, stream="true")).text)
        assert first == {"type": "transcript.text.delta", "delta": "one"}
        assert last["error"]["message"] == "broken"

    serve(scenario)


@pytest.mark.parametrize(
    ("file", "fields", "param"),
    [
        (b"no sound at all, but text", {}, "file"),
        (wav()[:44], {}, "file"),
        (wav(), {"response_format": "diarized_json"}, "response_format"),
        (wav(), {"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        (wav(), {"stream": "true", "response_format": "srt"}, "stream"),
        (wav(), {"temperature": "warm"}, "temperature"),
    ],
)
def test_bad_requests_name_their_field(serve, file, fields, param) -> None:
    async def scenario(worker):
        answer = await form(worker, TRANSCRIPTIONS, file=file, **fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert worker.handler.seen == []

    serve(scenario)


def test_bad_recordings_in_json_name_their_place(serve) -> None:
    async def scenario(worker):
        answer = await worker.post(TRANSCRIPTIONS, input_audio={"data": base64.b64encode(b"not a sound").decode()})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_audio.data")
        answer = await worker.post(TRANSCRIPTIONS)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_audio")

    serve(scenario)


def test_a_recording_is_classified(serve) -> None:
    async def scenario(worker):
        answer = await form(worker, CLASSIFICATIONS, top_k="3")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["object"], body["model"]) == ("list", "asked/for:this")
        assert [one["score"] for one in body["data"]] == [1.0]
        (seen,) = worker.handler.seen
        assert (seen.task, seen.top_k) == ("classify", 3)

    serve(scenario)


def test_the_page_describes_forms_texts_and_events() -> None:
    dependencies = model_dependencies(None, StreamTiming(), None)
    app = Litestar([TranscriptionController], dependencies=dependencies, openapi_config=openapi_config("1"))
    described = app.openapi_schema.to_schema()["paths"][TRANSCRIPTIONS]["post"]
    assert set(described["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert set(described["responses"]["200"]["content"]) == {"application/json", "text/plain", "text/event-stream"}
