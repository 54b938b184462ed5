"""Weights that become 8 bit integers as they are loaded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from handlers import types as t
from handlers.deferred import complete
from handlers.quantization import wanted
from handlers.vision import VisionHandler
from openai_compat.errors import ModelUnavailable

there = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is an extra")
INT8 = {"quantization": "int8"}


def spec_of(**options: object) -> t.ModelSpec:
    return t.ModelSpec(id="tiny", path="", kind="vision", options=options)


def is_small(model: Any) -> bool:
    return any("Int8" in type(parameter).__name__ for parameter in model.parameters())


def test_nothing_is_quantised_unasked() -> None:
    assert not wanted(spec_of())


def test_what_cannot_be_done_is_refused_by_name(monkeypatch) -> None:
    with pytest.raises(ModelUnavailable, match="none, int8"):
        wanted(spec_of(quantization="int2"))
    monkeypatch.setattr("handlers.quantization.find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match=r"openai-compat\[quantization\]"):
        wanted(spec_of(quantization="int8"))
    monkeypatch.setattr("handlers.quantization.find_spec", lambda name: name)
    with pytest.raises(ModelUnavailable, match="both"):
        wanted(spec_of(quantization="int8", offload="disk"))


@there
@pytest.mark.parametrize("name", ["vit", "detr", "segformer"])
def test_a_model_in_int8_sees_much_the_same(tiny_seer, collector, name: str) -> None:
    def scores(**options: object) -> list[float]:
        spec = t.ModelSpec(id="x", path=str(tiny_seer(name)), kind="vision", device="cpu", threads=1, options=options)
        handler = VisionHandler(spec)
        handler.load_model(lambda stage, done=0, total=0: None)
        assert is_small(handler._backend.model) == bool(options)
        picture = t.Picture(width=30, height=20, pixels=bytes(range(200)) * 9)
        found = complete(handler.process_image(t.ImageTaskRequest(picture=picture, threshold=0.0), collector()))
        return [label.score for label in found.labels]

    assert scores(**INT8) == pytest.approx(scores(), abs=0.05)


@there
def test_a_text_model_in_int8_writes(tiny_llama, loader, collector) -> None:
    handler = loader(tiny_llama, dtype="float32", options=INT8)
    assert is_small(handler._lm.model)
    assert "Int8" not in type(handler._lm.model.lm_head.weight).__name__
    request = t.TextRequest(prompts=("The quick",), sampling=t.Sampling(max_tokens=8, temperature=0.0, ignore_eos=True))
    assert complete(handler.generate_text(request, collector())).usage.completion_tokens == 8
