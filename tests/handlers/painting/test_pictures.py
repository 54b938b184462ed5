"""Pictures of every family against the library's own pipeline on the same weights and seeds, number by number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlers import types as t
from handlers.painting.calls import Call
from openai_compat.errors import InvalidRequest, UnsupportedCapability, UnsupportedParameter

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # torch's, of numpy's interface
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),  # a pipeline's among all of them
]

PROMPT = "a red fox"
SEED = 7
UNBINNED = {"use_resolution_binning": False}
"""There are no tables of sizes for models as small as these."""
TEXT_TO_IMAGE = (
    "stable_diffusion",
    "latent_consistency",
    "stable_diffusion_xl",
    "stable_diffusion_3",
    "flux",
    "pixart",
    "sana",
)
EDITS = ("stable_diffusion", "latent_consistency", "stable_diffusion_xl", "stable_diffusion_3", "flux")


def colours(width: int, height: int, channels: int = 3) -> t.Picture:
    """A picture with a gradient, so that turning or moving it would show."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    layers = [across, down, 255 - across, np.full_like(across, 255)][:channels]
    return t.Picture(width=width, height=height, channels=channels, pixels=np.stack(layers, -1).astype(np.uint8).tobytes())


def right_half(width: int, height: int) -> t.Picture:
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 255
    return t.Picture(width=width, height=height, channels=1, pixels=mask.tobytes())


def as_image(picture: t.Picture) -> Image.Image:
    return Image.frombytes({1: "L", 3: "RGB"}[picture.channels], (picture.width, picture.height), picture.pixels)


def pixels(made: Any) -> list[bytes]:
    return [image.convert("RGB").tobytes() for image in made.images]


def generators(count: int, seed: int = SEED) -> list[Any]:
    import torch

    return [torch.Generator().manual_seed(seed + number) for number in range(count)]


def direct(folder: Path, cls: str = "DiffusionPipeline") -> Any:
    """The library, called as its documentation says."""
    import diffusers

    pipeline = getattr(diffusers, cls).from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def painter(folder_of, loader) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def find(name: str) -> Any:
        if name not in made:
            made[name] = loader(folder_of(name))
        return made[name]

    return find


def draw(handler: Any, ctx: Any, **fields: Any) -> t.PictureResult:
    request = handler.apply_mode_settings(t.ImageRequest(**{"prompt": PROMPT, "seed": SEED, "steps": 3, **fields}))
    handler.validate_inputs(request)
    return handler.generate_image(request, ctx)


def bytes_of(result: t.PictureResult) -> list[bytes]:
    return [picture.pixels for picture in result.pictures]


# ---------------------------------------------------------------- the library's numbers


@pytest.mark.parametrize("family", TEXT_TO_IMAGE)
def test_a_prompt_gives_the_library_s_own_picture(painter, folder_of, collector, family: str) -> None:
    small = {"width": 32, "height": 32}
    size = {"flux": small, "pixart": UNBINNED, "sana": small | UNBINNED}.get(family, {})
    theirs = direct(folder_of(family))(
        PROMPT, num_inference_steps=3, generator=generators(2), num_images_per_prompt=2, **size
    )  # fmt: skip
    ours = draw(painter(family), collector(), n=2)
    assert bytes_of(ours) == pixels(theirs)
    assert len(set(bytes_of(ours))) == 2


@pytest.mark.filterwarnings("ignore:`callback_steps` is deprecated:FutureWarning")  # the library's, of itself
def test_a_model_of_two_stages_draws_as_the_library_does(painter, folder_of, collector) -> None:
    ctx = collector()
    made = direct(folder_of("kandinsky"))(
        PROMPT, num_inference_steps=3, generator=generators(2), num_images_per_prompt=2, width=32, height=32
    )
    assert bytes_of(draw(painter("kandinsky"), ctx, n=2)) == pixels(made)
    assert [(delta.done, delta.total) for delta in ctx.deltas] == [(1, 3), (2, 3), (3, 3)]


def test_a_model_that_reads_no_prompt_draws_as_the_library_does(painter, folder_of, collector) -> None:
    theirs = direct(folder_of("unconditional"))(batch_size=2, num_inference_steps=3, generator=generators(2))
    assert bytes_of(draw(painter("unconditional"), collector(), n=2)) == pixels(theirs)


@pytest.mark.parametrize("family", EDITS)
def test_an_edit_is_the_library_s_image_to_image_on_the_same_weights(painter, folder_of, collector, family: str) -> None:
    from diffusers import AutoPipelineForImage2Image

    start = colours(32, 32)
    theirs = AutoPipelineForImage2Image.from_pipe(direct(folder_of(family)))
    theirs.set_progress_bar_config(disable=True)
    size = {"width": 32, "height": 32} if family in ("flux", "stable_diffusion_3") else {}
    made = theirs(PROMPT, image=as_image(start), strength=0.7, num_inference_steps=4, generator=generators(1), **size)
    ours = draw(painter(family), collector(), task="edit", images=(start,), strength=0.7, steps=4)
    assert bytes_of(ours) == pixels(made)


@pytest.mark.parametrize("family", ["controlled", "instructed", "enlarging"])
def test_an_edit_by_a_pipeline_for_it_is_the_library_s(painter, folder_of, collector, family: str) -> None:
    """One that keeps to a control, one that follows an instruction, and one that enlarges."""
    start = colours(32, 32)
    made = direct(folder_of(family))(PROMPT, image=as_image(start), num_inference_steps=3, generator=generators(1))
    ours = draw(painter(family), collector(), task="edit", images=(start,))
    assert bytes_of(ours) == pixels(made)
    assert (ours.pictures[0].width == 64) == (family == "enlarging")


def test_a_picture_to_enlarge_keeps_its_size_until_then(painter, collector) -> None:
    handler = painter("enlarging")
    assert draw(handler, collector(), task="edit", images=(colours(24, 16),)).pictures[0].full_size == (48, 32)
    with pytest.raises(InvalidRequest, match="512 pixels a side"):
        draw(handler, collector(), task="edit", images=(colours(513, 8),))
    with pytest.raises(InvalidRequest, match="factor of its own"):
        draw(handler, collector(), task="edit", images=(colours(24, 16),), width=64, height=64)


def test_a_model_of_classes_takes_the_prompt_for_a_name(painter, folder_of, collector) -> None:
    made = direct(folder_of("of_classes"))([2], num_inference_steps=3, generator=generators(1)[0])
    assert bytes_of(draw(painter("of_classes"), collector(), prompt="shark")) == pixels(made)
    with pytest.raises(InvalidRequest, match="has names for") as caught:
        draw(painter("of_classes"), collector(), prompt="fox")
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl", "flux", "inpainter"])
def test_a_mask_is_the_library_s_inpainting_within_it(painter, folder_of, collector, family: str) -> None:
    from diffusers import AutoPipelineForInpainting

    start, mask = colours(32, 32), right_half(32, 32)
    theirs = AutoPipelineForInpainting.from_pipe(direct(folder_of(family)))
    theirs.set_progress_bar_config(disable=True)
    made = theirs(
        PROMPT, image=as_image(start), mask_image=as_image(mask), strength=1.0, num_inference_steps=3, generator=generators(1),
        width=32, height=32,
    )  # fmt: skip
    ours = draw(painter(family), collector(), task="edit", images=(start,), mask=mask, strength=1.0)
    drawn, expected, original = (
        np.frombuffer(data, np.uint8).reshape(32, 32, 3) for data in (bytes_of(ours)[0], pixels(made)[0], start.pixels)
    )
    np.testing.assert_array_equal(drawn[:, 16:], expected[:, 16:])
    np.testing.assert_array_equal(drawn[:, :16], original[:, :16])
    assert (drawn[:, 16:] != original[:, 16:]).any()


def test_the_operator_may_have_the_library_s_picture_outside_of_a_mask_too(folder_of, loader, collector) -> None:
    start, mask = colours(32, 32), right_half(32, 32)
    ours = draw(
        loader(folder_of("inpainter"), options={"paste": False}),
        collector(),
        task="edit",
        images=(start,),
        mask=mask,
        strength=1.0,
    )
    theirs = direct(folder_of("inpainter"))(
        PROMPT, image=as_image(start), mask_image=as_image(mask), num_inference_steps=3, generator=generators(1)
    )
    assert bytes_of(ours) == pixels(theirs)


def test_a_variation_is_the_library_s_own(painter, folder_of, collector) -> None:
    start = colours(32, 32)
    theirs = direct(folder_of("image_variation"))(
        as_image(start), num_inference_steps=3, generator=generators(2), num_images_per_prompt=2
    )
    ours = draw(painter("image_variation"), collector(), task="vary", prompt="", images=(start,), n=2)
    assert bytes_of(ours) == pixels(theirs)


def test_a_variation_by_a_model_of_text_is_an_edit_at_the_documented_strength(painter, collector) -> None:
    handler, start = painter("stable_diffusion"), colours(32, 32)
    varied = draw(handler, collector(), task="vary", images=(start,), prompt="")
    assert bytes_of(varied) == bytes_of(draw(handler, collector(), task="edit", images=(start,), prompt="", strength=0.6))


# ---------------------------------------------------------------- seeds and batches


@pytest.mark.parametrize("family", ["stable_diffusion", "latent_consistency", "stable_diffusion_3"])
def test_a_picture_of_a_batch_is_the_one_of_its_own_seed(painter, collector, family: str) -> None:
    handler = painter(family)
    together = draw(handler, collector(), n=3).pictures
    for number, picture in enumerate(together):
        alone = draw(handler, collector(), seed=SEED + number).pictures[0]
        difference = np.frombuffer(picture.pixels, np.uint8).astype(int) - np.frombuffer(alone.pixels, np.uint8)
        assert abs(difference).max() <= 1


def test_many_pictures_are_drawn_in_batches_and_told_of_as_one(folder_of, loader, collector) -> None:
    ctx = collector()
    made = draw(loader(folder_of("stable_diffusion"), options={"max_batch": 2}), ctx, n=3)
    progress = [(delta.done, delta.total) for delta in ctx.deltas]
    assert progress == [(done, 6) for done in range(1, 7)]
    assert len(set(bytes_of(made))) == 3


def test_without_a_seed_each_picture_is_another(painter, collector) -> None:
    handler = painter("stable_diffusion")
    assert bytes_of(draw(handler, collector(), seed=None)) != bytes_of(draw(handler, collector(), seed=None))


def test_drawing_leaves_the_global_randomness_alone(painter, collector) -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    draw(painter("latent_consistency"), collector())
    assert torch.equal(torch.rand(1), expected)


# ---------------------------------------------------------------- settings


def test_steps_and_guidance_come_from_the_request_the_operator_the_model_or_the_pipeline(folder_of, loader, tmp_path) -> None:
    import shutil

    folder = shutil.copytree(folder_of("stable_diffusion"), tmp_path / "own")
    request = t.ImageRequest(prompt=PROMPT)
    plain = loader(folder).get_generation_config(request)
    assert (plain.steps, plain.guidance) == (50, None)
    (folder / "generation_config.json").write_text(json.dumps({"guidance_scale": 2.0, "num_inference_steps": 8}))
    own = loader(folder).get_generation_config(request)
    assert (own.steps, own.guidance) == (8, 2.0)
    told = loader(folder, options={"steps": 6, "guidance": 3.0})
    assert (told.get_generation_config(request).steps, told.get_generation_config(request).guidance) == (6, 3.0)
    asked = told.get_generation_config(t.ImageRequest(prompt=PROMPT, steps=2, guidance=1.0))
    assert (asked.steps, asked.guidance) == (2, 1.0)


@pytest.mark.parametrize(("quality", "steps"), {"low": 5, "medium": 10, "high": 15, None: 10}.items())
def test_quality_is_a_share_of_the_usual_steps(folder_of, loader, quality, steps: int) -> None:
    handler = loader(folder_of("stable_diffusion"), options={"steps": 10})
    assert handler.get_generation_config(t.ImageRequest(prompt=PROMPT, quality=quality)).steps == steps


def test_guidance_and_what_is_not_wanted_change_the_picture(painter, collector) -> None:
    handler = painter("stable_diffusion")
    usual = bytes_of(draw(handler, collector()))
    assert bytes_of(draw(handler, collector(), guidance=1.0)) != usual
    assert bytes_of(draw(handler, collector(), negative_prompt="blue")) != usual


@pytest.mark.parametrize(
    ("family", "fields", "param"),
    [
        ("flux", {"negative_prompt": "x"}, "negative_prompt"),
        ("stable_diffusion", {"strength": 0.5}, "strength"),
        ("unconditional", {"guidance": 2.0}, "guidance"),
    ],
)
def test_a_setting_that_the_pipeline_has_not_is_refused_by_name(painter, collector, family, fields, param) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        draw(painter(family), collector(), **fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("family", "fields", "param", "said"),
    [
        ("stable_diffusion", {"width": 31, "height": 32}, "size", "16 to 64 pixels and is a multiple of 8; usual is 32x32"),
        ("stable_diffusion", {"width": 128, "height": 128}, "size", "16 to 64 pixels"),
        ("unconditional", {"width": 32, "height": 32}, "size", "16x16 only"),
        ("stable_diffusion", {"steps": 201}, "steps", "1 to 200 steps"),
        ("stable_diffusion", {"task": "edit"}, "image", "no picture"),
        ("stable_diffusion", {"task": "edit", "images": (colours(8, 8),) * 2}, "image", "1 of them"),
        ("stable_diffusion", {"task": "edit", "images": (colours(8, 8),), "strength": 0.0}, "strength", "at most 1"),
        ("stable_diffusion", {"task": "edit", "images": (colours(8, 8),), "strength": 1e-9}, "strength", "at least 0.005"),
        ("latent_consistency", {"task": "edit", "images": (colours(8, 8),), "mask": right_half(8, 8)}, "mask", "takes no mask"),
        ("inpainter", {"task": "edit", "images": (colours(8, 8),)}, "mask", "where a mask says"),
        ("stable_diffusion", {"seed": -1}, "seed", "2^63"),
        ("stable_diffusion", {"seed": 2**63 - 1, "n": 2}, "seed", "2^63"),
        ("stable_diffusion", {"prompt": "x" * 100}, "prompt", "102 tokens; this model reads 77"),
        ("stable_diffusion_xl", {"negative_prompt": "x" * 90}, "negative_prompt", "92 tokens; this model reads 77"),
        ("stable_diffusion_3", {"prompt": "x" * 300}, "prompt", "this model reads 256"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_could(painter, collector, family, fields, param, said) -> None:
    with pytest.raises(InvalidRequest) as caught:
        draw(painter(family), collector(), **fields)
    assert caught.value.param == param
    assert said in caught.value.message


@pytest.mark.parametrize(("family", "task"), [("inpainter", "generate"), ("image_variation", "generate"), ("pixart", "vary")])
def test_a_task_that_the_checkpoint_has_not_is_refused(painter, collector, family: str, task: str) -> None:
    with pytest.raises(InvalidRequest):
        draw(painter(family), collector(), task=task, images=() if task == "generate" else (colours(8, 8),))


def test_a_checkpoint_of_pictures_makes_no_video(painter) -> None:
    with pytest.raises(UnsupportedCapability):
        painter("stable_diffusion").validate_inputs(t.VideoRequest(prompt="x"))


def test_a_long_prompt_is_cut_where_the_operator_says_so(folder_of, loader, collector) -> None:
    handler = loader(folder_of("stable_diffusion"), options={"truncate": True})
    cut = draw(handler, collector(), prompt="x " * 200)
    assert bytes_of(cut) == bytes_of(draw(handler, collector(), prompt="x " * 75))
    assert cut.usage.prompt_tokens == 77


def test_a_long_prompt_is_read_where_one_encoder_can(painter, collector) -> None:
    assert draw(painter("stable_diffusion_3"), collector(), prompt="x" * 100).usage.prompt_tokens > 77


def test_the_operator_may_list_the_sizes(folder_of, loader, collector) -> None:
    handler = loader(folder_of("stable_diffusion"), options={"sizes": ["32x48", "16x16"]})
    assert [(p.width, p.height) for p in draw(handler, collector()).pictures] == [(32, 48)]
    with pytest.raises(InvalidRequest, match="possible are 32x48, 16x16"):
        draw(handler, collector(), width=32, height=32)


def test_a_size_may_be_other_than_square(painter, collector) -> None:
    made = draw(painter("stable_diffusion"), collector(), width=48, height=24).pictures[0]
    assert (made.width, made.height) == (48, 24)


@pytest.mark.parametrize(("sent", "made"), {(100, 100): (32, 32), (80, 40): (48, 24), (10, 400): (16, 64)}.items())
def test_an_edit_keeps_the_proportions_of_its_picture(painter, collector, sent, made) -> None:
    edited = draw(painter("stable_diffusion"), collector(), task="edit", images=(colours(*sent),)).pictures[0]
    assert (edited.width, edited.height) == made


def test_a_picture_with_transparency_is_edited_by_its_colours(painter, collector) -> None:
    handler = painter("stable_diffusion")
    plain, clear = (draw(handler, collector(), task="edit", images=(colours(32, 32, n),)) for n in (3, 4))
    assert bytes_of(plain) == bytes_of(clear)


@pytest.mark.parametrize("strength", [0.1, 1 / 161])
def test_a_weak_edit_takes_a_step_at_least(painter, collector, strength: float) -> None:
    """161 times 1/161 is less than 1 in a computer's numbers."""
    ctx = collector()
    draw(painter("stable_diffusion"), ctx, task="edit", images=(colours(32, 32),), strength=strength, steps=2)
    assert ctx.deltas[-1].done >= 1


def test_the_companions_share_the_weights(painter, collector) -> None:
    handler = painter("stable_diffusion")
    draw(handler, collector(), task="edit", images=(colours(32, 32),))
    pipes = handler._painter._studio.pipes
    assert pipes.painter("edit")[0] is not pipes.painter("generate")[0]
    assert pipes.painter("edit")[0].unet is pipes.painter("generate")[0].unet


# ---------------------------------------------------------------- on the way


@pytest.mark.parametrize("family", ["stable_diffusion", "pixart", "unconditional", "image_variation"])
def test_every_step_is_told_of(painter, collector, family: str) -> None:
    """By each of the three ways that pipelines have: the callback, the old callback, and none."""
    ctx = collector()
    varied = {"task": "vary", "images": (colours(32, 32),), "prompt": ""} if family == "image_variation" else {}
    draw(painter(family), ctx, **varied)
    assert [(delta.done, delta.total) for delta in ctx.deltas] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("family", ["stable_diffusion", "pixart", "unconditional"])
def test_a_request_that_nobody_wants_ends_between_two_steps(painter, collector, family: str) -> None:
    handler = painter(family)
    expected = bytes_of(draw(handler, collector()))
    ctx = collector(emits=2, error=InterruptedError)
    with pytest.raises(InterruptedError):
        draw(handler, ctx, steps=50)
    assert len(ctx.deltas) == 2
    assert bytes_of(draw(handler, collector())) == expected


def test_it_ends_within_a_step_too(painter, collector) -> None:
    ctx = collector(checks=2, error=InterruptedError)
    with pytest.raises(InterruptedError):
        draw(painter("stable_diffusion"), ctx)
    assert ctx.deltas == []


@pytest.mark.parametrize("family", TEXT_TO_IMAGE)
def test_partial_pictures_change_nothing(painter, collector, family: str) -> None:
    handler, ctx = painter(family), collector()
    expected = bytes_of(draw(handler, collector(), n=2, steps=4))
    assert bytes_of(draw(handler, ctx, n=2, steps=4, stream=True, partial_images=2)) == expected
    shown = [delta for delta in ctx.deltas if isinstance(delta, t.PictureDelta)]
    assert [(delta.index, delta.partial) for delta in shown] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert len({delta.picture.pixels for delta in shown}) == 4
    assert {(delta.picture.width, delta.picture.height) for delta in shown} == {
        (shown[0].picture.width, shown[0].picture.height)
    }


def test_a_pipeline_that_calls_nobody_back_shows_its_pictures_too(painter, collector, monkeypatch) -> None:
    """Of those with a decoder of the usual kind, LongCat's and DreamLite's."""
    handler, ctx, takes = painter("stable_diffusion"), collector(), Call.takes
    monkeypatch.setattr(Call, "takes", lambda call, name: not name.startswith("callback") and takes(call, name))
    expected = bytes_of(draw(handler, collector()))
    assert bytes_of(draw(handler, ctx, stream=True, partial_images=2)) == expected
    assert [delta.partial for delta in ctx.deltas if isinstance(delta, t.PictureDelta)] == [0, 1]
    assert [delta.done for delta in ctx.deltas if isinstance(delta, t.ProgressDelta)] == [1, 2, 3]


def test_without_a_stream_nothing_is_shown(painter, collector) -> None:
    ctx = collector()
    draw(painter("stable_diffusion"), ctx, partial_images=2)
    assert not any(isinstance(delta, t.PictureDelta) for delta in ctx.deltas)


# ---------------------------------------------------------------- the safety checker


@pytest.fixture
def guarded(folder_of, loader, monkeypatch) -> Any:
    """A pipeline with a checker that objects to the second picture of a batch."""
    handler = loader(folder_of("stable_diffusion"))
    pipeline = handler._painter._studio.pipes.main

    def check(images: Any, device: Any, dtype: Any) -> tuple[Any, list[bool]]:
        return images, [number == 1 for number in range(len(images))]

    monkeypatch.setattr(pipeline, "safety_checker", object())
    monkeypatch.setattr(pipeline, "run_safety_checker", check)
    return handler


def test_a_picture_that_the_model_s_checker_objects_to_is_refused(guarded, collector) -> None:
    assert len(draw(guarded, collector(), n=1).pictures) == 1
    with pytest.raises(InvalidRequest, match="objects to 1 of the pictures") as caught:
        draw(guarded, collector(), n=2)
    assert (caught.value.code, caught.value.param) == ("content_policy_violation", "prompt")


def test_nor_is_it_shown_on_the_way(guarded, collector) -> None:
    ctx = collector()
    with pytest.raises(InvalidRequest):
        draw(guarded, ctx, n=2, stream=True, partial_images=2)
    assert not any(isinstance(delta, t.PictureDelta) for delta in ctx.deltas)
