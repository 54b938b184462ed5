"""The routes of speech and sound, around the echo handler: it speaks a tone of 8 kHz."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math

import av
import pytest

from handlers import types as t
from handlers.base import BaseHandler
from openai_compat.errors import APIError

SPEECH, SOUND = "/v1/audio/speech", "/v1/audio/generations"
TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
WORDS = "one two three four five six seven eight nine ten"


def seconds_of(data: bytes, format: str) -> float:
    if format == "pcm":
        return len(data) / 48_000
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.rate


@pytest.mark.parametrize("format", TYPES)
def test_speech_is_a_file_of_the_format_asked_for(serve, format):
    async def scenario(worker):
        answer = await worker.post(SPEECH, input=WORDS, voice="alloy", response_format=format)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == TYPES[format]
        assert "content-length" not in answer.headers
        assert seconds_of(answer.content, format) == pytest.approx(0.5, abs=0.16)

    serve(scenario)


def test_mp3_is_the_default_and_the_request_reaches_the_handler(serve):
    async def scenario(worker):
        answer = await worker.post(
            SPEECH, input="Hi", voice={"id": "x"}, speed=2, instructions="softly", language="de", seed=7, mode="auto"
        )
        assert answer.headers["content-type"] == "audio/mpeg"
        (seen,) = worker.handler.seen
        assert seen == t.SpeechRequest(
            text="Hi", voice="x", speed=2.0, instructions="softly", language="de", seed=7, mode="auto", stream=True
        )

    serve(scenario)


def test_a_description_of_sound_reaches_the_handler(serve):
    async def scenario(worker):
        answer = await worker.post(
            SOUND, prompt="rain", seconds=1.5, seed=3, steps=4, guidance=2, negative_prompt="wind", response_format="pcm"
        )
        assert seconds_of(answer.content, "pcm") == pytest.approx(1.5, abs=0.01)
        (seen,) = worker.handler.seen
        assert seen == t.SpeechRequest(
            text="rain", task="sound", seconds=1.5, seed=3, steps=4, guidance=2.0, negative_prompt="wind", stream=True
        )

    serve(scenario)


@pytest.mark.parametrize("path", [SPEECH, SOUND])
def test_events_hold_the_file_in_pieces_and_end_with_the_usage(serve, path):
    async def scenario(worker):
        field = "input" if path == SPEECH else "prompt"
        body = {field: WORDS, "response_format": "pcm"}
        whole = await worker.post(path, **body)
        answer = await worker.post(path, **body, stream_format="sse")
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, done = [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n") if event]
        assert {event["type"] for event in deltas} == {"speech.audio.delta"}
        assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == whole.content
        assert done == {
            "type": "speech.audio.done",
            "usage": {"input_tokens": 10, "output_tokens": 0, "total_tokens": 10},
        }

    serve(scenario)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (SPEECH, {"input": " \n"}, "input"),
        (SPEECH, {"input": ""}, "input"),
        (SPEECH, {"input": "x" * 4097}, "input"),
        (SPEECH, {"input": "x", "speed": 0.2}, "speed"),
        (SPEECH, {"input": "x", "speed": 4.1}, "speed"),
        (SPEECH, {"input": "x", "response_format": "midi"}, "response_format"),
        (SPEECH, {"input": "x", "stream_format": "text"}, "stream_format"),
        (SPEECH, {"input": "x", "voice": ""}, "voice"),
        (SPEECH, {"input": "x", "voice": {}}, "voice.id"),
        (SPEECH, {}, "input"),
        (SOUND, {"prompt": "\t"}, "prompt"),
        (SOUND, {"prompt": "x", "seconds": 0}, "seconds"),
        (SOUND, {"prompt": "x", "seconds": 121}, "seconds"),
        (SOUND, {"prompt": "x", "steps": 0}, "steps"),
    ],
)
def test_what_no_model_could_do_is_a_400_that_names_the_field(serve, path, body, param):
    async def scenario(worker):
        answer = await worker.post(path, **body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert not worker.handler.seen

    serve(scenario)


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_failure_before_the_first_byte_has_its_status(serve, stream_format):
    async def scenario(worker):
        answer = await worker.post(SPEECH, input="[[fail_after=0]] Hi", stream_format=stream_format)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "scripted_failure"

    serve(scenario)


def sound_of(seconds: float) -> t.SoundDelta:
    pcm = b"".join(round(9000 * math.sin(i / 9)).to_bytes(2, "little", signed=True) for i in range(round(seconds * 8000)))
    return t.SoundDelta(sound=t.Sound(pcm=pcm, rate=8000))


async def called(app, body: dict, headers: dict, left: asyncio.Event) -> list[dict]:
    """What the application sends; the client leaves when ``left`` is set."""
    sent: list[dict] = []
    inbox = [{"type": "http.request", "body": json.dumps({"model": "x", **body}).encode(), "more_body": False}]

    async def receive() -> dict:
        if inbox:
            return inbox.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)
        if message.get("body") and body.get("leave"):
            left.set()

    scope = {
        "type": "http", "method": "POST", "path": SPEECH, "raw_path": SPEECH.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "state": {},
        "http_version": "1.1", "scheme": "http", "client": None, "server": None, "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


def speak_with(worker, speak) -> None:
    worker.handler.generate_audio = speak
    assert isinstance(worker.handler, BaseHandler)


def test_a_failure_after_the_first_byte_breaks_the_answer_off_and_never_looks_whole(serve, caplog):
    async def scenario(worker):
        sent_some = asyncio.Event()
        loop = asyncio.get_running_loop()

        def speak(request, ctx):
            ctx.emit(sound_of(2))
            asyncio.run_coroutine_threadsafe(sent_some.wait(), loop).result(20)
            raise APIError("The voice broke.")

        speak_with(worker, speak)
        task = asyncio.ensure_future(called(worker.app, {"input": "x"}, worker.headers, asyncio.Event()))
        await asyncio.sleep(0.3)
        sent_some.set()
        sent = await task
        assert sent[0]["status"] == 200
        assert sum(len(message["body"]) for message in sent[1:]) > 1000
        assert all(message["more_body"] for message in sent[1:])
        assert "The voice broke." in caplog.text

    serve(scenario)


def test_a_client_that_leaves_ends_the_speaking(serve):
    async def scenario(worker):
        spoken = []

        def speak(request, ctx):
            for _ in range(1000):
                ctx.emit(sound_of(0.5))
                spoken.append(1)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result(20)
            return t.SoundResult(seconds=1)

        loop = asyncio.get_running_loop()
        speak_with(worker, speak)
        sent = await called(worker.app, {"input": "x", "leave": True}, worker.headers, asyncio.Event())
        assert sent[-1]["more_body"]
        while worker.runner.active:
            await asyncio.sleep(0.01)
        assert len(spoken) < 100

    serve(scenario)


def test_the_first_bytes_come_before_the_rest_is_spoken(serve):
    async def scenario(worker):
        heard = asyncio.Event()
        loop = asyncio.get_running_loop()

        def speak(request, ctx):
            ctx.emit(sound_of(1))
            asyncio.run_coroutine_threadsafe(heard.wait(), loop).result(20)
            ctx.emit(sound_of(1))
            return t.SoundResult(seconds=2)

        speak_with(worker, speak)
        sent = await called(worker.app, {"input": "x", "leave": True}, worker.headers, heard)
        assert sent[0]["status"] == 200

    serve(scenario)
