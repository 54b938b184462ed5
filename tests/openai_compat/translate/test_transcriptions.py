"""Transcripts, wire ⇄ domain: every format, every refusal, and events that OpenAI's own types read."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from openai.types.audio import TranscriptionVerbose
from openai.types.audio.transcription_stream_event import TranscriptionStreamEvent
from pydantic import TypeAdapter

from handlers import types as t
from openai_compat.errors import InvalidRequest
from openai_compat.protocol import RelayFacts
from openai_compat.translate import transcriptions as translate
from openai_compat.translate.languages import CODES, NAMES, code_of, name_of
from openai_compat.translate.subtitles import to_srt, to_vtt
from schemas.decode import decode
from schemas.transcriptions import (
    ClassificationRequest,
    JsonTranscriptionRequest,
    TranscriptionRequest,
    TranslationRequest,
)

FACTS = RelayFacts(request_id="r", model="m", public_model="m")
SOUND = t.Sound(pcm=bytes(32_000), rate=16_000)
WAV = base64.b64encode(b"RIFF\0\0\0\0WAVEfmt ").decode()
RESULT = t.TranscriptResult(
    text="Hello there. Bye.",
    language="de",
    duration=3.5,
    segments=(
        t.Segment(
            start=0.0,
            end=1.5,
            text=" Hello there.",
            words=(t.Word(start=0.0, end=0.5, text=" Hello"), t.Word(start=0.5, end=1.25, text=" there.")),
            tokens=(1, 2),
            avg_logprob=-0.25,
            compression_ratio=1.5,
            no_speech_prob=0.125,
        ),
        t.Segment(
            start=3661.25, end=3662.0, text=" Bye.", words=(t.Word(start=2.0, end=3.0, text=" Bye."),), tokens=(3,), seek=200
        ),
    ),
    usage=t.Usage(prompt_tokens=175, completion_tokens=3),
)


def transcription(**fields: object) -> TranscriptionRequest:
    return decode(json.dumps({"model": "m", **fields}).encode(), TranscriptionRequest)


def events(body: TranscriptionRequest | TranslationRequest) -> list[dict]:
    stream = translate.TranscriptStream(body)
    batch: list[t.Delta] = [t.TextDelta(index=0, text="Hello there."), t.SegmentDelta(segment=RESULT.segments[0])]
    frames = (stream.deltas(batch) + stream.finish(RESULT)).decode()
    assert all(frame.startswith("data: ") for frame in frames.strip().split("\n\n"))
    return [json.loads(frame.removeprefix("data: ")) for frame in frames.strip().split("\n\n")]


# ---------------------------------------------------------------- requests


def test_everything_reaches_the_domain() -> None:
    body = transcription(
        language="German",
        languages=["en-US", "fr"],
        prompt="P",
        keywords=["k"],
        temperature=0.5,
        response_format="verbose_json",
        timestamp_granularities=["word", "word"],
        stream=True,
        chunking_strategy={"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 300, "prefix_padding_ms": 20},
        mode="auto",
    )
    assert translate.plan(body) == "process_audio"
    assert translate.to_request(body, SOUND, FACTS) == t.AudioTaskRequest(
        audio=SOUND,
        task="transcribe",
        language="de",
        languages=("en", "fr"),
        keywords=("k",),
        prompt="P",
        temperature=0.5,
        timestamps=("word",),
        voice_activity=t.VoiceActivity(threshold=0.5, silence_ms=300, padding_ms=20),
        mode="auto",
        stream=True,
    )


def test_what_is_left_out_stays_open() -> None:
    plain = translate.to_request(transcription(), SOUND, FACTS)
    assert plain == t.AudioTaskRequest(audio=SOUND, task="transcribe")
    assert translate.to_request(transcription(language="", prompt=""), SOUND, FACTS) == plain
    assert translate.to_request(transcription(chunking_strategy="auto"), SOUND, FACTS).voice_activity == t.VoiceActivity()
    assert translate.to_request(TranslationRequest(model="m"), SOUND, FACTS).task == "translate"
    assert translate.to_classify(ClassificationRequest(model="m", top_k=3), SOUND, FACTS) == t.AudioTaskRequest(
        audio=SOUND, task="classify", top_k=3
    )


@pytest.mark.parametrize("form", ["srt", "vtt", "verbose_json"])
def test_formats_with_times_ask_for_segments(form) -> None:
    assert translate.to_request(transcription(response_format=form), SOUND, FACTS).timestamps == ("segment",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"include": ["logprobs"]}, "include"),
        ({"known_speaker_names": ["a"]}, "known_speaker_names"),
        ({"known_speaker_references": ["data:audio/wav;base64,AAAA"]}, "known_speaker_references"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"timestamp_granularities": ["word"], "response_format": "srt"}, "timestamp_granularities"),
        ({"stream": True, "response_format": "srt"}, "stream"),
        ({"stream": True, "response_format": "vtt"}, "stream"),
        ({"input_audio": {"data": "@@@"}}, "input_audio.data"),
        ({"input_audio": {"data": "ftp://example.com/talk.mp3"}}, "input_audio.data"),
        ({"temperature": 1.5}, "temperature"),
        ({"timestamp_granularities": ["letter"]}, "timestamp_granularities[0]"),
        ({"chunking_strategy": "sometimes"}, "chunking_strategy"),
        ({"response_format": "xml"}, "response_format"),
    ],
)
def test_what_is_refused_is_named(fields, param) -> None:
    with pytest.raises(InvalidRequest) as refused:
        translate.plan(transcription(**fields))
    assert refused.value.param == param


def test_json_needs_the_recording_inside_it() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(b'{"model": "m"}', JsonTranscriptionRequest)
    assert refused.value.param == "input_audio"
    body = decode(
        json.dumps({"model": "m", "input_audio": {"data": WAV, "format": "nonsense"}}).encode(), JsonTranscriptionRequest
    )
    assert translate.plan(body) == "process_audio"
    assert translate.recording(body.input_audio).data.startswith(b"RIFF")


# ---------------------------------------------------------------- answers


def test_json_has_the_text_and_what_it_took() -> None:
    answer = translate.to_response(RESULT, transcription())
    assert json.loads(msgspec.json.encode(answer)) == {
        "text": "Hello there. Bye.",
        "usage": {"type": "duration", "seconds": 3.5},
    }


def test_text_is_plain() -> None:
    assert translate.to_response(RESULT, transcription(response_format="text")) == "Hello there. Bye.\n"


def test_subtitles_are_numbered_and_timed() -> None:
    assert translate.to_response(RESULT, transcription(response_format="srt")) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:01:01,250 --> 01:01:02,000\nBye.\n\n"
    )
    assert translate.to_response(RESULT, transcription(response_format="vtt")) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n01:01:01.250 --> 01:01:02.000\nBye.\n\n"
    )


def test_a_text_cannot_end_its_own_cue() -> None:
    mean = t.Segment(start=0.0, end=59.9996, text=" one\n\n2\n00:00 --> 00:01\ntwo")
    assert to_srt([mean]) == "1\n00:00:00,000 --> 00:01:00,000\none 2 00:00 -> 00:01 two\n\n"
    assert to_vtt([]) == "WEBVTT\n\n"


@pytest.mark.parametrize(
    ("asked", "segments", "words"),
    [([], True, False), (["segment"], True, False), (["word"], False, True), (["word", "segment"], True, True)],
)
def test_a_verbose_answer_has_what_was_asked_for_and_openai_s_types_read_it(asked, segments, words) -> None:
    body = transcription(response_format="verbose_json", timestamp_granularities=asked)
    read = TranscriptionVerbose.model_validate_json(msgspec.json.encode(translate.to_response(RESULT, body)), strict=True)
    assert (read.language, read.duration, read.text) == ("german", 3.5, "Hello there. Bye.")
    assert (read.segments is not None, read.words is not None) == (segments, words)
    if words:
        assert [(word.word, word.start, word.end) for word in read.words] == [
            ("Hello", 0.0, 0.5),
            ("there.", 0.5, 1.25),
            ("Bye.", 2.0, 3.0),
        ]
    if segments:
        first, second = read.segments
        assert (first.id, first.seek, first.tokens, first.avg_logprob) == (0, 0, [1, 2], -0.25)
        assert (second.id, second.seek, second.start) == (1, 200, 3661.25)


def test_a_translation_is_english_whatever_was_spoken() -> None:
    answer = translate.to_response(RESULT, TranslationRequest(model="m", response_format="verbose_json"))
    assert (answer.task, answer.language) == ("translate", "english")


def test_a_model_that_cannot_tell_the_language_leaves_it_to_the_client() -> None:
    silent = msgspec.structs.replace(RESULT, language=None)
    assert translate.to_response(silent, transcription(response_format="verbose_json", language="fr")).language == "french"
    assert translate.to_response(silent, transcription(response_format="verbose_json")).language == ""


@pytest.mark.parametrize(
    ("fields", "types"),
    [
        ({}, ["delta", "done"]),
        ({"timestamp_granularities": ["segment"]}, ["delta", "segment", "done"]),
        ({"response_format": "verbose_json"}, ["delta", "segment", "done"]),
        ({"response_format": "verbose_json", "timestamp_granularities": ["word"]}, ["delta", "done"]),
    ],
)
def test_events_are_those_that_openai_s_types_know(fields, types) -> None:
    found = events(transcription(stream=True, **fields))
    assert [event["type"].rpartition(".")[2] for event in found] == types
    reader = TypeAdapter(TranscriptionStreamEvent)
    for event in found:
        reader.validate_python(event, strict=True)
    assert found[-1]["text"] == RESULT.text
    assert found[-1]["usage"]["total_tokens"] == 178
    assert ("words" in found[-1]) == (fields.get("timestamp_granularities") == ["word"])
    assert ("duration" in found[-1]) == ("response_format" in fields)


def test_labels_come_likeliest_first() -> None:
    found = t.LabelResult(labels=(t.Label(label="rain", score=0.75), t.Label(label="wind", score=0.25)))
    answer = translate.to_classification(found, model="m", seconds=2.0)
    assert json.loads(msgspec.json.encode(answer)) == {
        "object": "list",
        "model": "m",
        "data": [{"label": "rain", "score": 0.75}, {"label": "wind", "score": 0.25}],
        "usage": {"type": "duration", "seconds": 2.0},
    }


# ---------------------------------------------------------------- languages


@pytest.mark.parametrize(
    ("written", "code"),
    [("en", "en"), ("EN", "en"), ("en-US", "en"), ("pt_BR", "pt"), ("English", "en"), ("castilian", "es"), ("eng", "eng")],
)
def test_languages_are_understood_as_clients_write_them(written, code) -> None:
    assert code_of(written) == code


def test_the_names_are_whisper_s() -> None:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    assert NAMES == LANGUAGES
    assert CODES == TO_LANGUAGE_CODE
    assert name_of("haw") == "hawaiian"
    assert name_of("eng") == "eng"
