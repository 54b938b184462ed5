"""What pipelines take, by their signatures; no weights are needed for that."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.painting.calls import COMPOSERS, Call


def call_of(name: str) -> Call:
    import diffusers

    return Call(object.__new__(getattr(diffusers, name)))


@pytest.mark.parametrize(
    ("name", "most"),
    {
        "StableDiffusionImg2ImgPipeline": 1,
        "StableDiffusionControlNetImg2ImgPipeline": 2,
        "FluxControlPipeline": 1,
        "Flux2KleinPipeline": 0,
        "JoyImageEditPlusPipeline": 0,
    }.items(),
)
def test_a_pipeline_takes_so_many_pictures(name: str, most: int) -> None:
    assert call_of(name).pictures == most


@pytest.mark.parametrize(
    ("name", "images", "arguments"),
    [
        ("StableDiffusionImg2ImgPipeline", ("a",), {"image": "a"}),
        ("StableDiffusionControlNetImg2ImgPipeline", ("a", "b"), {"image": "a", "control_image": "b"}),
        ("FluxControlPipeline", ("a",), {"control_image": "a"}),
        ("Flux2KleinPipeline", ("a",), {"image": "a"}),
        ("Flux2KleinPipeline", ("a", "b"), {"image": ["a", "b"]}),
        ("JoyImageEditPlusPipeline", ("a", "b"), {"images": ["a", "b"]}),
    ],
)
def test_pictures_go_into_the_arguments_for_them(name: str, images: tuple[str, ...], arguments: dict[str, Any]) -> None:
    assert call_of(name).sources(images) == arguments


@pytest.mark.parametrize("name", COMPOSERS)
def test_those_that_make_one_picture_of_several_are_there(name: str) -> None:
    assert call_of(name).takes("image")


@pytest.mark.parametrize(
    ("name", "guidance", "unwanted"),
    [
        ("StableDiffusionPipeline", "guidance_scale", True),
        ("FluxPipeline", "guidance_scale", False),
        ("QwenImagePipeline", "true_cfg_scale", True),
        ("StableCascadeCombinedPipeline", "prior_guidance_scale", True),
        ("HunyuanImagePipeline", None, True),
        ("LatentConsistencyModelPipeline", "guidance_scale", False),
    ],
)
def test_guidance_and_what_is_not_wanted_have_the_names_of_the_family(name: str, guidance: str | None, unwanted: bool) -> None:
    call = call_of(name)
    assert (call.guidance, call.unwanted) == (guidance, unwanted)


@pytest.mark.parametrize(
    ("name", "each"),
    [("StableDiffusionPipeline", True), ("StableUnCLIPImg2ImgPipeline", False), ("PixArtAlphaPipeline", True)],
)
def test_a_generator_for_each_picture_goes_where_it_may(name: str, each: bool) -> None:
    assert call_of(name).generators is each
