"""Videos of every family against the library's own pipeline on the same weights and seed, number by number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.painting.video import fitting
from openai_compat.errors import InvalidRequest, UnsupportedCapability

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # torch's, of numpy's interface
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning"),
]

PROMPT = "a red fox"
SEED = 7
PLAIN = t.Picture(width=32, height=32, pixels=bytes(range(256)) * 12)


@pytest.fixture(scope="session")
def filmer(folder_of, loader) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def find(name: str) -> Any:
        if name not in made:
            made[name] = loader(folder_of(name))
        return made[name]

    return find


def film(handler: Any, ctx: Any, **fields: Any) -> t.VideoResult:
    request = handler.apply_mode_settings(t.VideoRequest(**{"prompt": PROMPT, "seed": SEED, "steps": 2, **fields}))
    handler.validate_inputs(request)
    return handler.generate_video(request, ctx)


def frames_of(ctx: Any) -> list[bytes]:
    return [delta.picture.pixels for delta in ctx.deltas if isinstance(delta, t.FrameDelta)]


def direct(folder: Path, **arguments: Any) -> list[bytes]:
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    made = pipeline(generator=generator, num_inference_steps=2, output_type="pil", **arguments).frames[0]
    return [frame.tobytes() for frame in made]


@pytest.mark.parametrize("family", ["text_to_video_sd", "ltx", "wan", "animated", "cogvideo"])
def test_a_prompt_gives_the_library_s_own_video(filmer, folder_of, collector, family: str) -> None:
    ctx, frames = collector(), 4 if family == "animated" else 9
    result = film(filmer(family), ctx, frames=frames)
    size = {"width": 32, "height": 32} if family in ("ltx", "wan") else {}
    assert frames_of(ctx) == direct(folder_of(family), prompt=PROMPT, num_frames=frames, **size)
    assert result.frames == len(frames_of(ctx)) == frames


def test_a_model_that_moves_so_many_frames_makes_no_more(filmer, collector) -> None:
    assert film(filmer("animated"), collector(), steps=1).frames == 8
    with pytest.raises(InvalidRequest, match="1 to 8 frames"):
        film(filmer("animated"), collector(), frames=9)


def test_a_picture_gives_the_library_s_own_video(filmer, folder_of, collector) -> None:
    from PIL import Image

    ctx = collector()
    result = film(filmer("stable_video"), ctx, image=PLAIN, frames=2)
    picture = Image.frombytes("RGB", (32, 32), PLAIN.pixels)
    assert frames_of(ctx) == direct(folder_of("stable_video"), image=picture, num_frames=2, width=32, height=32)
    assert (result.frames, result.rate) == (2, 7.0)


def test_a_model_of_text_that_has_a_companion_begins_with_a_picture_too(filmer, folder_of, collector) -> None:
    import torch
    from diffusers import DiffusionPipeline, LTXImageToVideoPipeline
    from PIL import Image

    ctx = collector()
    film(filmer("ltx"), ctx, image=PLAIN, frames=9)
    text = DiffusionPipeline.from_pretrained(folder_of("ltx"), local_files_only=True)
    theirs = LTXImageToVideoPipeline(**text.components)
    theirs.set_progress_bar_config(disable=True)
    made = theirs(
        image=Image.frombytes("RGB", (32, 32), PLAIN.pixels), prompt=PROMPT, num_frames=9, width=32, height=32,
        num_inference_steps=2, generator=torch.Generator().manual_seed(SEED),
    ).frames[0]  # fmt: skip
    assert frames_of(ctx) == [frame.tobytes() for frame in made]


@pytest.mark.parametrize("family", ["wan", "text_to_video_sd"])
@pytest.mark.parametrize("mode", [None, "auto", "video"])
def test_each_mode_of_videos_films(filmer, collector, family: str, mode: str | None) -> None:
    assert film(filmer(family), collector(), frames=1, steps=1, mode=mode).frames == 1


def test_progress_comes_before_the_frames(filmer, collector) -> None:
    ctx = collector()
    film(filmer("wan"), ctx, frames=5, steps=3)
    kinds = [type(delta) for delta in ctx.deltas]
    assert kinds == [t.ProgressDelta] * 3 + [t.FrameDelta] * 5
    assert [(delta.done, delta.total) for delta in ctx.deltas[:3]] == [(1, 3), (2, 3), (3, 3)]


def test_a_video_that_nobody_wants_ends_between_two_steps(filmer, collector) -> None:
    ctx = collector(emits=1, error=InterruptedError)
    with pytest.raises(InterruptedError):
        film(filmer("wan"), ctx, frames=5, steps=30)
    assert len(ctx.deltas) == 1


@pytest.mark.parametrize(
    ("fields", "made"),
    [({"frames": 5}, 5), ({"frames": 8}, 5), ({"seconds": 0.5, "rate": 18.0}, 9), ({"seconds": 0.5}, 5), ({"frames": 1}, 1)],
)
def test_length_is_rounded_down_to_what_the_model_can_make(filmer, collector, fields, made) -> None:
    """Its decoder makes one frame and then groups of four; it was trained on 16 frames a second."""
    ctx = collector()
    result = film(filmer("wan"), ctx, steps=1, **fields)
    assert (result.frames, len(frames_of(ctx))) == (made, made)
    assert result.rate == fields.get("rate", 16.0)


def test_any_length_is_made_where_the_decoder_has_no_groups() -> None:
    assert fitting(object(), 7) == 7


def test_the_operator_sets_the_usual_length_and_rate(folder_of, loader, collector) -> None:
    handler = loader(folder_of("wan"), options={"frames": 5, "rate": 4.0})
    result = film(handler, collector(), steps=1)
    assert (result.frames, result.rate) == (5, 4.0)


@pytest.mark.parametrize(
    ("family", "options", "fields", "param"),
    [
        ("wan", {}, {"frames": 257}, "frames"),
        ("wan", {}, {"seconds": 60.0}, "seconds"),
        ("wan", {"max_frames": 9}, {"frames": 13}, "frames"),
        ("wan", {"max_pixels": 9 * 32 * 32}, {"frames": 13}, "size"),
        ("wan", {}, {"width": 40, "height": 32}, "size"),
        ("wan", {}, {"image": PLAIN}, "image"),
        ("stable_video", {}, {}, "image"),
        ("stable_video", {}, {"image": PLAIN, "negative_prompt": "x"}, "negative_prompt"),
        ("ltx", {}, {"steps": 500}, "steps"),
        ("wan", {}, {"seed": 2**63}, "seed"),
    ],
)
def test_what_cannot_be_is_refused_by_name(folder_of, loader, filmer, collector, family, options, fields, param) -> None:
    handler = loader(folder_of(family), options=options) if options else filmer(family)
    with pytest.raises(InvalidRequest) as caught:
        film(handler, collector(), **fields)
    assert caught.value.param == param


def test_a_checkpoint_of_videos_draws_no_picture(filmer) -> None:
    with pytest.raises(UnsupportedCapability):
        filmer("wan").validate_inputs(t.ImageRequest(prompt="x"))


def test_the_seed_decides(filmer, collector) -> None:
    first, second, other = collector(), collector(), collector()
    for ctx, seed in ((first, 1), (second, 1), (other, 2)):
        film(filmer("text_to_video_sd"), ctx, frames=2, seed=seed)
    assert frames_of(first) == frames_of(second) != frames_of(other)
