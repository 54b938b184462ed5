"""Models that do not fit: where their weights go, and that their numbers stay the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.causal_lm import read_model
from handlers.deferred import complete
from handlers.offload import WORKING, Free, decide, is_offloaded
from handlers.vision import VisionHandler
from openai_compat.errors import ModelUnavailable

GIB = 1 << 30
LABELS = ("cat", "dog")


@pytest.mark.parametrize(
    ("needed", "free", "where"),
    [
        (8 * GIB, Free(10 * GIB, 64 * GIB), "none"),
        (9 * GIB, Free(10 * GIB, 64 * GIB), "cpu"),  # beside its work
        (60 * GIB, Free(10 * GIB, 64 * GIB), "cpu"),
        (70 * GIB, Free(10 * GIB, 64 * GIB), "disk"),
        (GIB, Free(0, 0), "disk"),
    ],
)
def test_weights_stay_as_near_as_they_fit(needed: int, free: Free, where: str) -> None:
    assert decide(needed, free) == where


def test_some_of_a_device_is_left_to_work_with() -> None:
    near, far = Free(10 * GIB, 100 * GIB).for_weights
    assert near < 9 * GIB <= near + WORKING
    assert far == 90 * GIB
    assert Free(GIB, 0).for_weights == (0, 0)


def load(folder: Path, **options: Any) -> VisionHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="vision", device="cpu", threads=1, options=options)
    handler = VisionHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.mark.filterwarnings("ignore:The following device_map keys do not match")  # they are a model's own parameters
@pytest.mark.parametrize("name", ["vit", "detr", "yolos", "segformer", "dpt", "clip", "owlv2"])
def test_a_model_that_stays_on_the_disk_sees_the_same(tiny_seer, collector, name: str) -> None:
    picture = t.Picture(width=30, height=20, pixels=bytes(range(200)) * 9)
    labels = LABELS if name in ("clip", "owlv2") else ()
    request = t.ImageTaskRequest(picture=picture, labels=labels)
    near, far = load(tiny_seer(name)), load(tiny_seer(name), offload="disk")
    assert not is_offloaded(near._backend.model)
    assert is_offloaded(far._backend.model)
    found = [complete(handler.process_image(request, collector())) for handler in (near, far, far)]
    assert found[0] == found[1] == found[2]


def test_a_model_that_cannot_run_so_says_it_when_it_is_loaded(tiny_seer) -> None:
    with pytest.raises(ModelUnavailable):
        load(tiny_seer("mask2former"), offload="disk")


def test_on_a_processor_the_main_memory_is_where_weights_are_anyway(tiny_seer) -> None:
    assert not is_offloaded(load(tiny_seer("vit"), offload="cpu")._backend.model)


def test_an_unknown_place_is_refused(tiny_seer, tiny_llama: Path, loader) -> None:
    with pytest.raises(ModelUnavailable, match="offload"):
        load(tiny_seer("vit"), offload="moon")
    with pytest.raises(ModelUnavailable, match="auto, none, cpu, disk"):
        loader(tiny_llama, options={"offload": "moon"})


def test_a_text_model_that_stays_on_the_disk_writes_the_same(tiny_llama: Path, loader, collector) -> None:
    request = t.TextRequest(prompts=("The quick brown",), sampling=t.Sampling(max_tokens=8, temperature=0.0, ignore_eos=True))

    def said(**options: Any) -> str:
        handler = loader(tiny_llama, dtype="float32", options=options)
        assert is_offloaded(handler._lm.model) == (options.get("offload") == "disk")
        return complete(handler.generate_text(request, collector())).choices[0].text

    assert said(offload="disk") == said() != ""


def test_what_an_offload_needs_on_the_disk_goes_with_the_model(tiny_llama: Path, tmp_path: Path, monkeypatch) -> None:
    import gc
    import tempfile

    from transformers import AutoConfig, AutoModelForCausalLM

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spec = t.ModelSpec(id="x", path=str(tiny_llama), kind="transformer", device="cpu", options={"offload": "disk"})
    model = read_model(spec, AutoModelForCausalLM, AutoConfig.from_pretrained(tiny_llama), lambda *_, **__: None)
    assert is_offloaded(model)
    assert len(list(tmp_path.iterdir())) == 1
    assert json.loads((tiny_llama / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    del model
    gc.collect()
    assert list(tmp_path.iterdir()) == []
