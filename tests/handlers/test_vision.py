"""The vision handler's facts; what its families find is in ``seeing``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from handlers import types as t
from handlers.registry import create
from handlers.vision import VisionHandler
from openai_compat.errors import ModelUnavailable


def spec_of(folder: Path, **fields: object) -> t.ModelSpec:
    return t.ModelSpec(**{"id": "tiny", "path": str(folder), "kind": "vision", "device": "cpu", **fields})


def load(spec: t.ModelSpec) -> VisionHandler:
    handler = VisionHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture
def copied(tiny_seer, tmp_path: Path):
    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny_seer(name), tmp_path / name))

    return copy


def test_what_a_model_is_is_read_from_its_files(tiny_seer) -> None:
    facts = VisionHandler.analyze(spec_of(tiny_seer("detr_segmentation")))
    assert facts.architecture == "DetrForSegmentation"
    assert facts.capabilities == ("process_image", "process_multimodal")
    assert facts.modes == ("auto", "segment", "detect")
    assert facts.parameters > 1000
    assert facts.load_bytes > 4 * facts.parameters
    assert not facts.has_chat_template


def test_missing_files_are_named(copied) -> None:
    folder = copied("vit")
    assert VisionHandler.validate_model_files(spec_of(folder)) == ()
    (folder / "preprocessor_config.json").unlink()
    assert VisionHandler.validate_model_files(spec_of(folder)) == ("preprocessor_config.json: is missing",)
    (folder / "model.safetensors").unlink()
    assert "model.safetensors: is missing" in VisionHandler.validate_model_files(spec_of(folder))


def test_a_model_that_lacks_weights_is_not_served(copied) -> None:
    from safetensors.torch import load_file, save_file

    weights = copied("vit") / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("classifier")}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match="missing or have the wrong shape"):
        load(spec_of(weights.parent))


def test_an_unknown_option_is_refused_by_name(tiny_seer) -> None:
    with pytest.raises(ModelUnavailable, match="nonsense"):
        load(spec_of(tiny_seer("vit"), options={"nonsense": 1}))
    with pytest.raises(ModelUnavailable, match="label_template"):
        load(spec_of(tiny_seer("clip"), options={"label_template": "no place for it"}))


def test_a_model_of_another_kind_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no vision model"):
        load(spec_of(tiny_llama))


def test_the_registry_finds_the_handler(tiny_seer) -> None:
    assert isinstance(create(spec_of(tiny_seer("dpt"), kind="auto")), VisionHandler)


def test_half_precision_files_are_computed_in_full_on_a_processor(copied) -> None:
    from transformers import AutoModelForObjectDetection

    folder = copied("detr")
    AutoModelForObjectDetection.from_pretrained(folder, dtype="float16").save_pretrained(folder)
    assert str(load(spec_of(folder))._backend.model.dtype) == "torch.float32"
    assert str(load(spec_of(folder, dtype="bfloat16"))._backend.model.dtype) == "torch.bfloat16"
