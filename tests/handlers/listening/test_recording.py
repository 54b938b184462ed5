"""What all listeners share."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import types as t
from handlers.listening import recording
from handlers.listening.recording import (
    Progress,
    RunningText,
    compression_ratio,
    refuse_silence_settings,
    temperatures,
    waveform,
)
from openai_compat.errors import UnsupportedParameter


@given(st.lists(st.text(alphabet=" \nab", max_size=6)))
def test_pieces_of_a_running_text_joined_are_the_text_without_space_around_it(pieces) -> None:
    text = RunningText()
    shown = "".join(text.add(piece) for piece in pieces)
    assert shown == text.text == "".join(pieces).strip()


def test_samples_are_numbers_from_minus_one_to_one() -> None:
    sound = t.Sound(pcm=b"\x00\x80\x00\x00\xff\x7f", rate=16_000)
    assert waveform(sound).tolist() == [-1.0, 0.0, 32767 / 32768]


@given(st.floats(0, 1))
def test_tries_grow_warmer_up_to_one(start) -> None:
    tries = temperatures(start)
    assert tries[0] == pytest.approx(start, abs=0.01)
    assert list(tries) == sorted(set(tries))
    assert tries[-1] <= 1.0


def test_repetition_compresses_well() -> None:
    assert compression_ratio("ask not " * 40) > 2.4 > compression_ratio("ask not what your country can do for you")
    assert compression_ratio("") == 0.0


@pytest.mark.parametrize(("seconds", "told"), [(59.0, 0), (61.0, 1)])
def test_the_log_hears_of_long_recordings_only_and_not_too_often(monkeypatch, caplog, seconds, told) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0])
    monkeypatch.setattr(recording.time, "monotonic", lambda: next(clock))
    progress = Progress(seconds, model="m")
    with caplog.at_level(logging.INFO, logger=recording.__name__):
        for second in (10.0, 40.0, 50.0):
            progress.at(second)
    assert [record.message for record in caplog.records] == ["m heard 40 of 61 seconds"] * told


def test_a_model_that_looks_for_no_silence_takes_auto_and_no_settings() -> None:
    sound = t.Sound(pcm=bytes(3200), rate=16_000)
    for wish in (None, t.VoiceActivity()):
        refuse_silence_settings(t.AudioTaskRequest(audio=sound, task="transcribe", voice_activity=wish))
    told = t.AudioTaskRequest(audio=sound, task="transcribe", voice_activity=t.VoiceActivity(silence_ms=0))
    with pytest.raises(UnsupportedParameter) as refused:
        refuse_silence_settings(told)
    assert refused.value.param == "chunking_strategy"
