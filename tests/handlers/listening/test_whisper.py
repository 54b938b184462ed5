"""Whisper through transformers: the library's own ``generate``, number by number, told segment by segment."""

from __future__ import annotations

import pytest

from handlers import types as t
from handlers.listening.recording import waveform
from openai_compat.errors import InvalidRequest, UnsupportedCapability, UnsupportedParameter


def asked(sound: t.Sound, **changes: object) -> t.AudioTaskRequest:
    return t.AudioTaskRequest(**{"audio": sound, "task": "transcribe", "temperature": 1.0, **changes})


def library(folder, sound: t.Sound, **options):
    """Segments of ``generate`` with the parameters that OpenAI's own code has."""
    import torch
    from transformers import AutoFeatureExtractor, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype="float32").eval()
    extract = AutoFeatureExtractor.from_pretrained(folder)
    padding = {"truncation": False, "padding": "longest"} if sound.seconds > 30 else {}
    features = extract(waveform(sound), sampling_rate=16_000, return_tensors="pt", return_attention_mask=True, **padding)
    torch.manual_seed(7)
    found = model.generate(
        **features,
        return_timestamps=True,
        return_segments=True,
        condition_on_prev_tokens=True,
        temperature=(1.0,),
        compression_ratio_threshold=2.4,
        logprob_threshold=-1.0,
        no_speech_threshold=0.6,
        **options,
    )
    return found["segments"][0]


@pytest.mark.parametrize("seconds", [5.0, 65.0], ids=["one window", "long form"])
def test_it_finds_the_segments_that_generate_finds(tiny_whisper, listening, sound, collector, seconds) -> None:
    import torch

    handler, ctx, heard = listening(tiny_whisper), collector(), sound(seconds)
    torch.manual_seed(7)
    result = handler.process_audio(asked(heard, language="de"), ctx)
    expected = [
        (float(raw["start"]), min(float(raw["end"]), seconds), tuple(raw["tokens"].tolist()))
        for raw in library(tiny_whisper, heard, language="de", task="transcribe")
        if float(raw["start"]) < seconds
    ]
    found = [(segment.start, segment.end, segment.tokens) for segment in result.segments]
    assert found
    assert [one for one in expected if one in found] == found  # those without a word in them are left out
    assert len(expected) - len(found) <= 2
    assert ctx.text() == result.text
    assert [delta.segment for delta in ctx.deltas if isinstance(delta, t.SegmentDelta)] == list(result.segments)
    assert result.language == "de"


def test_segments_carry_what_they_were_judged_by(tiny_whisper, listening, sound, collector) -> None:
    result = listening(tiny_whisper).process_audio(asked(sound(65.0), language="en"), collector())
    for segment in result.segments:
        assert segment.temperature == 1.0
        assert segment.avg_logprob < 0
        assert 0 < segment.no_speech_prob < 1
        assert segment.compression_ratio > 0
    assert {segment.seek for segment in result.segments} > {0}


def test_words_lie_in_their_segment_one_after_the_other(tiny_whisper, listening, sound, collector) -> None:
    handler = listening(tiny_whisper)
    result = handler.process_audio(asked(sound(5.0), language="en", timestamps=("word",)), collector())
    for segment in result.segments:
        assert "".join(word.text for word in segment.words).strip() == segment.text.strip()
        starts = [word.start for word in segment.words]
        assert starts == sorted(starts)
        assert all(word.start <= word.end for word in segment.words)
    assert any(segment.words for segment in result.segments)


def test_the_likeliest_of_the_named_languages_is_taken(tiny_whisper, listening, sound, collector) -> None:
    handler, heard = listening(tiny_whisper), sound(3.0)
    alone = handler.process_audio(asked(heard), collector()).language
    other = {"en": "de", "de": "en"}[alone]
    assert handler.process_audio(asked(heard, languages=("en", "de")), collector()).language == alone
    assert handler.process_audio(asked(heard, languages=(other,)), collector()).language == other


def test_a_prompt_goes_before_what_is_heard(tiny_whisper, listening, sound, collector) -> None:
    import torch

    handler, heard, seen = listening(tiny_whisper), sound(29.0), []
    for prompt in (None, "one two", "word " * 400):
        torch.manual_seed(7)
        seen.append(handler.process_audio(asked(heard, language="en", prompt=prompt), collector()).segments)
    assert seen[0] != seen[1] != seen[2]
    with pytest.raises(InvalidRequest) as refused:
        handler.process_audio(asked(heard, prompt="<|startoftranscript|>"), collector())
    assert refused.value.param == "prompt"


def test_an_english_model_neither_translates_nor_takes_other_languages(
    tiny_whisper_english, listening, sound, collector
) -> None:
    handler = listening(tiny_whisper_english)
    with pytest.raises(UnsupportedCapability, match="English only"):
        handler.validate_inputs(asked(sound(1.0), task="translate"))
    with pytest.raises(InvalidRequest, match="'de'"):
        handler.validate_inputs(asked(sound(1.0), language="de"))
    with pytest.raises(UnsupportedParameter, match="times of words"):
        handler.validate_inputs(asked(sound(1.0), timestamps=("word",)))
    handler.validate_inputs(asked(sound(1.0), language="en"))
    assert handler.process_audio(asked(sound(1.0)), collector()).language == "en"


def test_a_translation_is_another_task_of_the_same_model(tiny_whisper, listening, sound, collector) -> None:
    import torch

    handler, found = listening(tiny_whisper), []
    for task in ("transcribe", "translate"):
        handler.validate_inputs(asked(sound(3.0), task=task))
        torch.manual_seed(7)
        found.append(handler.process_audio(asked(sound(3.0), task=task, language="de"), collector()).segments)
    assert found[0] != found[1]


def test_nobody_waiting_stops_it_within_a_token(tiny_whisper, listening, sound, collector) -> None:
    handler = listening(tiny_whisper)
    ctx = collector(checks=4, error=InterruptedError)
    with pytest.raises(InterruptedError):
        handler.process_audio(asked(sound(65.0)), ctx)
    assert ctx.checks == 5
    assert handler.process_audio(asked(sound(1.0)), collector()).duration == 1.0
