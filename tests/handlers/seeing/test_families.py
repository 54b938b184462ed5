"""Which vision models are known, by their configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from handlers import loading
from handlers import types as t
from handlers.registry import detect
from handlers.seeing.families import family_of
from handlers.vision import VisionHandler
from openai_compat.errors import ModelUnavailable


@pytest.fixture
def configured(tmp_path: Path):
    def write(*architectures: object, **more: object) -> str:
        (tmp_path / "config.json").write_text(json.dumps({"architectures": list(architectures), **more}))
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    ("architecture", "tasks"),
    [
        ("ViTForImageClassification", ("classify",)),
        ("LevitForImageClassificationWithTeacher", ("classify",)),
        ("DetrForObjectDetection", ("detect",)),
        ("RTDetrV2ForObjectDetection", ("detect",)),
        ("Owlv2ForObjectDetection", ("detect",)),
        ("GroundingDinoForObjectDetection", ("detect",)),
        ("DetrForSegmentation", ("segment", "detect")),
        ("SegformerForSemanticSegmentation", ("segment",)),
        ("UperNetForSemanticSegmentation", ("segment",)),
        ("Mask2FormerForUniversalSegmentation", ("segment",)),
        ("MaskFormerForInstanceSegmentation", ("segment",)),
        ("DepthAnythingForDepthEstimation", ("depth",)),
    ],
)
def test_an_architecture_says_what_a_model_can(configured, architecture: str, tasks: tuple[str, ...]) -> None:
    path = configured(architecture)
    assert detect(path) == "vision"
    spec = t.ModelSpec(id="x", path=path, kind="vision")
    assert VisionHandler.get_supported_modes(spec) == ("auto", *tasks)
    assert VisionHandler.get_model_capabilities(spec) == {"process_image", "process_multimodal"}


@pytest.mark.parametrize("architecture", ["Owlv2ForObjectDetection", "GroundingDinoForObjectDetection", "CLIPModel"])
def test_a_model_that_takes_any_label_reads_words(configured, architecture: str) -> None:
    family = family_of(configured(architecture))
    assert family is not None
    assert family.words


@pytest.mark.parametrize("architecture", ["Owlv2ForObjectDetection", "Mask2FormerForUniversalSegmentation"])
def test_a_package_that_is_not_there_is_named_when_it_is_loaded(configured, monkeypatch, architecture: str) -> None:
    spec = t.ModelSpec(id="x", path=configured(architecture), kind="vision")
    assert "scipy" in VisionHandler.get_dependencies(spec)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match="needs the package scipy"):
        VisionHandler(spec).load_model(lambda stage, done=0, total=0: None)


def test_a_clip_embeds_unless_it_is_told_to_see(configured) -> None:
    path = configured("CLIPModel", model_type="clip")
    assert detect(path) == "embedding"
    assert VisionHandler.get_supported_modes(t.ModelSpec(id="x", path=path, kind="vision")) == ("auto", "classify")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"architectures": 5}', '{"architectures": [5]}', '{"architectures": ["X"]}']
)
def test_anything_else_is_no_vision_model(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert family_of(str(tmp_path)) is None
    with pytest.raises(ModelUnavailable):
        detect(str(tmp_path))
