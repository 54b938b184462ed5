"""Which checkpoints are found to see, hear or paint, and that the library has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from handlers import loading
from handlers.mixing.families import JANUS, MEDIA, NEEDS, kind_of
from handlers.multimodal import MultimodalHandler
from handlers.registry import detect
from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable


@pytest.mark.parametrize("architecture", MEDIA)
def test_every_architecture_is_one_of_the_library_s_and_has_a_processor(architecture: str) -> None:
    cls = getattr(transformers, architecture)
    assert cls.config_class in transformers.models.auto.processing_auto.PROCESSOR_MAPPING


@pytest.mark.parametrize("architecture", NEEDS)
def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    spec = ModelSpec(id="m", path=str(tmp_path), kind="multimodal")
    assert {*NEEDS[architecture]} <= {*MultimodalHandler.get_dependencies(spec)}
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match=f"needs the package {NEEDS[architecture][0]}"):
        MultimodalHandler(spec).load_model(lambda stage, done=0, total=0: None)


@pytest.mark.parametrize("architecture", MEDIA)
def test_the_registry_finds_them(tmp_path: Path, architecture: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert detect(str(tmp_path)) == ("janus" if architecture == JANUS else "multimodal")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"architectures": [3]}', '{"architectures": ["LlamaForCausalLM"]}'])
def test_other_configurations_are_none_of_them(tmp_path: Path, content: str) -> None:
    assert kind_of(str(tmp_path)) is None
    (tmp_path / "config.json").write_text(content)
    assert kind_of(str(tmp_path)) is None
