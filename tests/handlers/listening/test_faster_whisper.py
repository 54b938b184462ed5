"""Whisper base in CTranslate2's format on real speech: every word right, and what faster-whisper itself gives."""

from __future__ import annotations

import logging
import re
import wave
from pathlib import Path

import pytest

from handlers import types as t
from handlers.audio import AudioHandler
from handlers.listening import recording
from openai_compat.errors import InvalidRequest, ModelUnavailable, UnsupportedCapability

SAID = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


def words_of(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


@pytest.fixture(scope="module")
def jfk(jfk_wav: Path) -> t.Sound:
    with wave.open(str(jfk_wav)) as file:
        return t.Sound(pcm=file.readframes(file.getnframes()), rate=file.getframerate())


@pytest.fixture(scope="module")
def whisper(whisper_base_folder: Path, listening) -> AudioHandler:
    return listening(whisper_base_folder, threads=None)


def asked(sound: t.Sound, **changes: object) -> t.AudioTaskRequest:
    return t.AudioTaskRequest(**{"audio": sound, "task": "transcribe", **changes})


def test_it_hears_every_word(whisper, jfk, collector) -> None:
    ctx = collector()
    result = whisper.process_audio(asked(jfk), ctx)
    assert words_of(result.text) == SAID
    assert ctx.text() == result.text
    assert (result.language, result.duration) == ("en", 11.0)
    assert [delta.segment for delta in ctx.deltas if isinstance(delta, t.SegmentDelta)] == list(result.segments)
    assert result.usage.prompt_tokens == 550
    assert result.usage.completion_tokens == sum(len(segment.tokens) for segment in result.segments)


def test_segments_are_faster_whisper_s_own(whisper, whisper_base_folder, jfk, collector) -> None:
    from faster_whisper import WhisperModel

    model = WhisperModel(str(whisper_base_folder), device="cpu", compute_type="int8", cpu_threads=2)
    found, _ = model.transcribe(recording.waveform(jfk), word_timestamps=True)
    expected = list(found)
    result = whisper.process_audio(asked(jfk, timestamps=("word",)), collector())
    assert [(one.seek, one.start, one.end, one.text, one.tokens) for one in result.segments] == [
        (one.seek, one.start, one.end, one.text, tuple(one.tokens)) for one in expected
    ]
    assert [(word.text, word.start, word.end) for one in result.segments for word in one.words] == [
        (word.word, word.start, word.end) for one in expected for word in one.words
    ]
    assert result.segments[0].avg_logprob == pytest.approx(expected[0].avg_logprob)


def test_words_follow_one_another_through_the_recording(whisper, jfk, collector) -> None:
    result = whisper.process_audio(asked(jfk, timestamps=("word",)), collector())
    words = [word for segment in result.segments for word in segment.words]
    assert words_of("".join(word.text for word in words)) == SAID
    assert all(word.start < word.end <= 11.0 for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)


def test_silence_has_no_words_where_silence_is_left_out(whisper, collector) -> None:
    silent, ctx = t.Sound(pcm=bytes(2 * 16_000 * 3), rate=16_000), collector()
    result = whisper.process_audio(asked(silent, voice_activity=t.VoiceActivity(), language="en"), ctx)
    assert (result.text, result.segments, ctx.deltas) == ("", (), [])


def test_voice_activity_leaves_out_the_silence_and_keeps_the_times(whisper, jfk, collector) -> None:
    late = t.Sound(pcm=bytes(2 * 16_000 * 10) + jfk.pcm, rate=16_000)
    result = whisper.process_audio(asked(late, voice_activity=t.VoiceActivity(silence_ms=1500)), collector())
    assert words_of(result.text) == SAID
    assert 9.5 < result.segments[0].start < 11.5
    assert result.duration == 21.0


def test_a_long_recording_is_heard_by_windows_and_the_log_tells_how_far(whisper, jfk, collector, monkeypatch, caplog) -> None:
    monkeypatch.setattr(recording, "REPORT_EVERY", 0.0)
    long = t.Sound(pcm=(jfk.pcm + bytes(2 * 16_000 * 19)) * 3, rate=16_000)
    ctx = collector()
    with caplog.at_level(logging.INFO, logger=recording.__name__):
        result = whisper.process_audio(asked(long, language="en"), ctx)
    assert words_of(result.text) == " ".join([SAID] * 3)
    assert ctx.text() == result.text
    assert len({segment.seek for segment in result.segments}) > 1
    assert any(re.fullmatch(r"tiny heard \d+ of 90 seconds", record.message) for record in caplog.records)


def test_nobody_waiting_stops_it_at_the_next_window(whisper, jfk, collector) -> None:
    silent = t.Sound(pcm=bytes(2 * 16_000 * 90), rate=16_000)
    ctx = collector(checks=2, error=InterruptedError)
    with pytest.raises(InterruptedError):
        whisper.process_audio(asked(silent, language="en"), ctx)
    assert ctx.checks == 3
    assert words_of(whisper.process_audio(asked(jfk), collector()).text) == SAID


def test_the_language_is_one_of_those_named(whisper, jfk, collector) -> None:
    assert whisper.process_audio(asked(jfk, languages=("de", "en", "fr")), collector()).language == "en"
    assert whisper.get_generation_config(asked(jfk, languages=("en", "en"))).languages == ("en",)
    assert whisper.process_audio(asked(jfk, languages=("de", "fr")), collector()).language in ("de", "fr")
    for changes, param in (({"language": "xx"}, "language"), ({"languages": ("en", "xx")}, "languages")):
        with pytest.raises(InvalidRequest, match="'xx'") as refused:
            whisper.validate_inputs(asked(jfk, **changes))
        assert refused.value.param == param


def test_it_translates_but_does_not_classify(whisper, jfk, collector) -> None:
    whisper.validate_inputs(asked(jfk, task="translate"))
    result = whisper.process_audio(asked(jfk, task="translate", language="en"), collector())
    assert "country" in result.text
    with pytest.raises(UnsupportedCapability, match="does not classify"):
        whisper.validate_inputs(asked(jfk, task="classify"))
    with pytest.raises(UnsupportedCapability, match="generate audio"):
        whisper.generate_audio(t.SpeechRequest(text="x"), collector())


def test_keywords_and_a_prompt_lead_the_spelling(whisper, jfk, collector) -> None:
    plain = whisper.process_audio(asked(jfk, language="en"), collector())
    led = whisper.process_audio(asked(jfk, language="en", prompt="AND SO MY FELLOW AMERICANS. WE SPEAK LOUD."), collector())
    assert led.text != plain.text
    assert words_of(led.text) == SAID
    hinted = whisper.get_generation_config(asked(jfk, keywords=("Amerikans", "kountry"))).arguments
    assert hinted["hotwords"] == "Amerikans kountry"


@pytest.mark.parametrize("timestamps", [(), ("word",)])
def test_a_long_prompt_beside_many_keywords_leaves_room_for_the_answer(whisper, jfk, collector, timestamps) -> None:
    told = asked(
        jfk,
        language="en",
        prompt=" ".join(f"Kennedy{i}" for i in range(900)),
        keywords=tuple(f"Amerikans{i} kountry{i}" for i in range(30)),
        timestamps=timestamps,
    )
    assert "country" in whisper.process_audio(told, collector()).text


def test_nobody_waiting_stops_it_before_each_try_at_a_window_s_words(whisper, sound, collector) -> None:
    ctx = collector(checks=2, error=InterruptedError)  # before all else, and before the window
    with pytest.raises(InterruptedError):
        whisper.process_audio(asked(sound(3.0), language="en"), ctx)
    assert (ctx.checks, ctx.deltas) == (3, [])


def test_a_temperature_is_where_the_tries_begin(whisper, jfk) -> None:
    tries = [
        whisper.get_generation_config(asked(jfk, temperature=value)).arguments["temperature"] for value in (None, 0, 0.5, 1)
    ]
    assert tries == [(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.5, 0.7, 0.9), (1.0,)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": {"beam_size": 99}}, "beam_size"),
        ({"options": {"beams": 5}}, "beams"),
        ({"options": {"compute_type": "int3"}}, "cannot compute in int3"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "mps"}, "mps"),
    ],
)
def test_what_cannot_be_loaded_says_why(whisper_base_folder, listening, changes, reason) -> None:
    with pytest.raises(ModelUnavailable, match=reason):
        listening(whisper_base_folder, **changes)


def test_broken_weights_are_unavailable(whisper_base_folder, listening, tmp_path) -> None:
    for name in ("config.json", "vocabulary.txt", "tokenizer.json"):
        (tmp_path / name).write_bytes((whisper_base_folder / name).read_bytes())
    (tmp_path / "model.bin").write_bytes((whisper_base_folder / "model.bin").read_bytes()[:100_000])
    with pytest.raises(ModelUnavailable, match="could not be loaded"):
        listening(tmp_path)
