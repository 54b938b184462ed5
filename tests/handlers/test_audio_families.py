"""Which audio models are recognised, and what each may be asked."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from handlers import types as t
from handlers.audio import AudioHandler
from handlers.audio_families import FAMILIES, family_of
from handlers.registry import detect
from openai_compat.errors import ModelUnavailable

HEARING = [
    "WhisperForConditionalGeneration",
    "Wav2Vec2ForCTC",
    "HubertForCTC",
    "WavLMForCTC",
    "Wav2Vec2BertForCTC",
    "Speech2TextForConditionalGeneration",
    "MoonshineForConditionalGeneration",
    "SpeechT5ForSpeechToText",
    "WhisperForAudioClassification",
    "ASTForAudioClassification",
    "Wav2Vec2ForSequenceClassification",
    "SEWDForSequenceClassification",
]
NEITHER = ["LlamaForCausalLM", "BertForSequenceClassification", "BertModel", "Wav2Vec2Model", "SpeechT5ForSpeechToSpeech"]


def folder(path: Path, architecture: str) -> Path:
    (path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return path


def spec(path: Path) -> t.ModelSpec:
    return t.ModelSpec(id="m", path=str(path), kind="audio")


@pytest.mark.parametrize("architecture", HEARING)
def test_a_model_that_hears_does_not_speak(tmp_path, architecture) -> None:
    path = folder(tmp_path, architecture)
    assert detect(str(path)) == "audio"
    assert AudioHandler.get_model_capabilities(spec(path)) == {"process_audio"}


@pytest.mark.parametrize("architecture", NEITHER)
def test_other_architectures_are_left_to_others(tmp_path, architecture) -> None:
    path = folder(tmp_path, architecture)
    assert family_of(str(path)) is None
    assert AudioHandler.get_model_capabilities(spec(path)) == frozenset()


def test_a_folder_of_ctranslate2_is_told_by_its_files(tmp_path) -> None:
    for name in ("config.json", "model.bin", "vocabulary.txt"):
        (tmp_path / name).write_text("{}")
    assert detect(str(tmp_path)) == "audio"
    assert AudioHandler.get_model_capabilities(spec(tmp_path)) == {"process_audio"}
    assert AudioHandler.validate_model_files(spec(tmp_path)) == ("tokenizer.json: is missing",)
    assert not any("torch" in name for name in AudioHandler.get_dependencies(spec(tmp_path)))


def test_what_a_family_needs_beside_its_weights_is_missed(tmp_path) -> None:
    problems = AudioHandler.validate_model_files(spec(folder(tmp_path, "WhisperForConditionalGeneration")))
    assert "generation_config.json: is missing" in problems
    assert "model.safetensors: is missing" in problems


@pytest.mark.parametrize("content", ["", "[]", '{"architectures": 3}', '{"architectures": [3]}', "{", "[" * 100_000])
def test_a_broken_configuration_is_no_family(tmp_path, content) -> None:
    (tmp_path / "config.json").write_text(content)
    assert family_of(str(tmp_path)) is None


def test_loading_what_is_no_audio_model_says_so(tmp_path) -> None:
    with pytest.raises(ModelUnavailable, match="no audio model"):
        AudioHandler(spec(tmp_path)).load_model(lambda stage, done=0, total=0: None)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_s_backend_has_the_methods_of_its_verbs(family) -> None:
    module, _, name = family.backend.partition(":")
    backend = getattr(import_module(module), name)
    methods = {"process_audio": "hear", "generate_audio": "speak"}
    assert all(callable(getattr(backend, methods[verb])) for verb in family.verbs)


def test_facts_of_a_ctranslate2_folder_come_from_its_header(whisper_base_folder) -> None:
    found = AudioHandler.analyze(spec(whisper_base_folder))
    assert (found.architecture, found.dtype, found.weight_format) == (
        "whisper in CTranslate2's format",
        "float16",
        "ctranslate2",
    )
    assert found.context_length == 448
    assert found.capabilities == ("process_audio",)
    assert 72_000_000 < found.parameters < 73_000_000
    assert AudioHandler.validate_model_files(spec(whisper_base_folder)) == ()
