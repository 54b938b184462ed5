"""Recognition and classification through transformers: what the library's own pipeline gives, number by number."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from handlers import types as t
from handlers.audio import AudioHandler
from handlers.listening.recording import waveform
from openai_compat.errors import InvalidRequest, UnsupportedCapability, UnsupportedParameter

# what transformers' own WavLM and audio spectrogram transformer warn of
pytestmark = [
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask"),
    pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values"),
]


def asked(sound: t.Sound, **changes: object) -> t.AudioTaskRequest:
    return t.AudioTaskRequest(**{"audio": sound, "task": "transcribe", **changes})


def library(task: str, folder, **options):
    from transformers import AutoFeatureExtractor, pipeline

    return pipeline(task, model=str(folder), feature_extractor=AutoFeatureExtractor.from_pretrained(folder), **options)


@pytest.mark.parametrize("seconds", [2.0, 70.0], ids=["short", "by chunks"])
def test_ctc_models_write_what_the_pipeline_writes(tiny_ctc, listening, sound, collector, seconds) -> None:
    handler, ctx, heard = listening(tiny_ctc), collector(), sound(seconds)
    result = handler.process_audio(asked(heard), ctx)
    pipe = library("automatic-speech-recognition", tiny_ctc)
    expected = pipe(waveform(heard), chunk_length_s=30, return_timestamps="word")
    assert " ".join(result.text.split()) == " ".join(expected["text"].split()) != ""
    words = [word for segment in result.segments for word in segment.words]
    assert [(word.text.strip(), word.start, word.end) for word in words] == [
        (chunk["text"], *(round(time, 3) for time in chunk["timestamp"])) for chunk in expected["chunks"]
    ]
    assert ctx.text() == result.text
    assert result.duration == seconds


@pytest.mark.parametrize("seconds", [2.0, 40.0], ids=["short", "by chunks"])
def test_encoder_decoder_models_write_what_the_pipeline_writes(tiny_seq2seq, listening, sound, collector, seconds) -> None:
    handler, ctx, heard = listening(tiny_seq2seq), collector(), sound(seconds)
    result = handler.process_audio(asked(heard), ctx)
    pipe = library("automatic-speech-recognition", tiny_seq2seq)
    expected = pipe(waveform(heard), chunk_length_s=30, ignore_warning=True)
    assert result.text == expected["text"].strip() == ctx.text()
    assert [(segment.start, segment.end) for segment in result.segments] == [(0.0, seconds)] * bool(result.text)


def test_classifiers_give_the_pipeline_s_scores(tiny_classifier, listening, sound, collector) -> None:
    handler, heard = listening(tiny_classifier), sound(1.0)
    result = handler.process_audio(asked(heard, task="classify", top_k=2), collector())
    expected = library("audio-classification", tiny_classifier)(waveform(heard), top_k=2)
    assert [(label.label, label.score) for label in result.labels] == [(one["label"], one["score"]) for one in expected]
    assert {label.label for label in result.labels} < {"speech", "music", "rain"}
    everything = handler.process_audio(asked(heard, task="classify"), collector())
    assert sum(label.score for label in everything.labels) == pytest.approx(1.0)


def test_a_recognizer_does_not_classify_nor_translate(tiny_ctc, listening, sound) -> None:
    handler = listening(tiny_ctc)
    for task in ("classify", "translate"):
        with pytest.raises(UnsupportedCapability, match=f"does not {task}"):
            handler.validate_inputs(asked(sound(1.0), task=task))


def test_a_classifier_does_not_transcribe(tiny_classifier, listening, sound) -> None:
    with pytest.raises(UnsupportedCapability, match="does not transcribe"):
        listening(tiny_classifier).validate_inputs(asked(sound(1.0)))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"keywords": ("x",)}, "keywords"),
        ({"voice_activity": t.VoiceActivity(threshold=0.9)}, "chunking_strategy"),
        ({"prompt": "x"}, "prompt"),
        ({"temperature": 0.5}, "temperature"),
        ({"timestamps": ("word",)}, "timestamp_granularities"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(tiny_seq2seq, listening, sound, changes, param) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        listening(tiny_seq2seq).validate_inputs(asked(sound(1.0), **changes))
    assert refused.value.param == param


def test_a_recording_too_short_is_refused(tiny_ctc, listening, sound) -> None:
    with pytest.raises(InvalidRequest, match="too short") as refused:
        listening(tiny_ctc).validate_inputs(asked(sound(0.05)))
    assert refused.value.param == "file"


def test_nobody_waiting_stops_it_between_chunks(tiny_ctc, listening, sound, collector) -> None:
    ctx = collector(checks=2, error=InterruptedError)
    with pytest.raises(InterruptedError):
        listening(tiny_ctc).process_audio(asked(sound(70.0)), ctx)
    assert ctx.checks == 3
    assert not ctx.deltas


def missed(folder: Path) -> tuple[str, ...]:
    return AudioHandler.validate_model_files(t.ModelSpec(id="m", path=str(folder), kind="audio"))


def test_a_whole_classifier_lacks_nothing_though_it_has_no_tokenizer(tiny_classifier) -> None:
    assert missed(tiny_classifier) == ()


def test_whole_recognizers_lack_nothing(tiny_ctc, tiny_seq2seq, tiny_whisper, tiny_whisper_english) -> None:
    for folder in (tiny_ctc, tiny_seq2seq, tiny_whisper, tiny_whisper_english):
        assert missed(folder) == ()


def test_a_classifier_without_its_sound_s_rate_is_missing_a_file(tiny_classifier, tmp_path) -> None:
    folder = shutil.copytree(tiny_classifier, tmp_path / "copy")
    (folder / "preprocessor_config.json").unlink()
    assert missed(folder) == ("preprocessor_config.json: is missing",)
