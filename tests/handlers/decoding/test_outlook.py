"""What is told of a model before it is loaded is what it comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from handlers import types as t
from handlers.decoding import outlook
from handlers.decoding.generate_path import GeneratePath
from handlers.decoding.kernels.compiler import NotBuilt
from handlers.transformer import TransformerHandler
from openai_compat.errors import ModelUnavailable

PACKED = ("llama", "qwen3", "gemma3", "mistral", "phi", "gpt2", "mixtral", "gpt-oss")
ALONE = ("mamba", "lfm2", "falcon", "stablelm", "bloom")
LARGE = t.Analysis(
    architecture="LlamaForCausalLM", parameters=1 << 30, dtype="bfloat16", bytes_per_dtype={"bfloat16": 2 << 30}, load_bytes=0
)


def spec(path: Path, **fields: object) -> t.ModelSpec:
    return t.ModelSpec(id="m", path=str(path), kind="transformer", **fields)


@pytest.mark.parametrize("name", [*PACKED, *ALONE])
def test_the_path_told_is_the_path_taken(family, name: str) -> None:
    model = family(name)
    taken = "generate" if isinstance(model.handler._engine, GeneratePath) else "engine"
    told = TransformerHandler.analyze(spec(model.folder))
    assert (told.path, told.weights) == (taken, "dtype")


def test_the_default_models_weights_are_told(smollm2_folder: Path, smollm2) -> None:
    told = TransformerHandler.analyze(spec(smollm2_folder))
    assert told.path == "engine"
    assert (told.weights == "auto") == smollm2._lm.fused


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({}, "auto"),
        ({"dtype": "bfloat16"}, "bf16"),
        ({"dtype": "float32"}, "dtype"),
        ({"options": {"weights": "dtype"}}, "dtype"),
        ({"options": {"weights": "int8"}, "dtype": "float32"}, "int8"),
        ({"device": "cuda"}, "dtype"),
    ],
)
def test_the_format_told_follows_the_settings(monkeypatch, tmp_path: Path, fields: dict[str, object], weights: str) -> None:
    monkeypatch.setattr(outlook, "check", lambda: None)
    assert outlook.outlook(spec(tmp_path, **fields), LARGE).weights == weights


def test_without_kernels_the_models_dtype_is_told(monkeypatch, tmp_path: Path) -> None:
    def none() -> None:
        raise NotBuilt("there is no C++ compiler")

    monkeypatch.setattr(outlook, "check", none)
    assert outlook.outlook(spec(tmp_path), LARGE).weights == "dtype"
    assert outlook.outlook(spec(tmp_path, dtype="bfloat16"), LARGE).weights == "dtype"


def test_an_unknown_format_is_refused_before_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"options\.weights"):
        outlook.outlook(spec(tmp_path, options={"weights": "int3"}), LARGE)


@pytest.mark.parametrize(
    "config",
    [
        {"text_config": {"layer_types": ["linear_attention"]}},
        {"rope_scaling": {"mrope_section": [1, 2]}},
        {"is_encoder_decoder": True},
    ],
)
def test_a_configuration_that_rules_packing_out_is_read(config: dict[str, object]) -> None:
    assert outlook.refusal(config)
    assert outlook.refusal({"layer_types": ["full_attention"], "rope_scaling": None}) is None
