"""The diffusion handler: facts from files alone, modes, and the trained painter."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from handlers import types as t
from handlers.diffusion import DiffusionHandler
from handlers.registry import detect
from openai_compat.errors import UnsupportedMode

PROMPT = "a red circle on a blue background"


@pytest.fixture(scope="module")
def shapes(bundled_folder) -> DiffusionHandler:
    handler = DiffusionHandler(spec(bundled_folder("shapes")))
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


def spec(folder: Path, **changes: object) -> t.ModelSpec:
    return t.ModelSpec(id="shapes", path=str(folder), kind="diffusion", **{"device": "cpu", "threads": 1, **changes})


def test_the_painter_is_known_by_its_index(bundled_folder) -> None:
    folder = bundled_folder("shapes")
    assert detect(str(folder)) == "diffusion"
    found = DiffusionHandler.analyze(spec(folder))
    assert found.architecture == "StableDiffusionPipeline"
    assert found.capabilities == ("generate_image",)
    assert found.modes == ("auto", "image")
    assert found.dtype == "float16"
    assert DiffusionHandler.validate_model_files(spec(folder)) == ()


def test_the_painter_s_pictures_are_the_library_s_in_its_own_settings(shapes, bundled_folder, collector) -> None:
    import torch
    from diffusers import DiffusionPipeline

    theirs = DiffusionPipeline.from_pretrained(bundled_folder("shapes"), dtype=torch.float32, local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    made = theirs(
        PROMPT, num_inference_steps=25, guidance_scale=2.0, num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
    ).images  # fmt: skip
    ours = shapes.generate_image(t.ImageRequest(prompt=PROMPT, n=2, seed=5), collector())
    assert [picture.pixels for picture in ours.pictures] == [image.tobytes() for image in made]


@pytest.mark.parametrize("mode", [None, "auto", "image"])
def test_each_mode_of_pictures_draws(shapes, collector, mode: str | None) -> None:
    request = shapes.apply_mode_settings(t.ImageRequest(prompt=PROMPT, steps=2, mode=mode))
    shapes.validate_inputs(request)
    assert request.mode == (mode or "auto")
    assert len(shapes.generate_image(request, collector()).pictures) == 1


def test_a_model_of_pictures_has_no_mode_for_videos(shapes) -> None:
    with pytest.raises(UnsupportedMode) as caught:
        shapes.apply_mode_settings(t.ImageRequest(prompt=PROMPT, mode="video"))
    assert caught.value.param == "mode"


def test_a_mode_for_the_other_kind_of_request_is_refused(shapes) -> None:
    with pytest.raises(UnsupportedMode):
        shapes.validate_inputs(t.ImageRequest(prompt=PROMPT, mode="video"))


def test_without_a_checkpoint_every_mode_is_listed() -> None:
    assert DiffusionHandler.get_supported_modes() == ("auto", "image", "video")


def test_the_extra_for_small_weights_is_a_dependency_of_who_asks_for_it(bundled_folder) -> None:
    plain = spec(bundled_folder("shapes"))
    small = replace(plain, options={"quantization": "int8"})
    added = set(DiffusionHandler.get_dependencies(small)) - set(DiffusionHandler.get_dependencies(plain))
    assert {name.partition(">")[0] for name in added} == {"torchao"}
