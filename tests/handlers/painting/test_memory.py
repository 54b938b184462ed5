"""What saves memory leaves the picture as it is; smaller weights leave it much as it is."""

from __future__ import annotations

import gc
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers import types as t
from handlers.painting import quantize
from handlers.painting.estimate import Needs, Plan, native_size, recommend
from openai_compat.errors import ModelUnavailable

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # torch's, of numpy's interface

START = t.Picture(width=32, height=32, pixels=bytes(range(256)) * 12)
SETTINGS: list[dict[str, Any]] = [
    {"offload": "model"},
    {"offload": "sequential"},
    {"offload": "group"},
    {"offload": "disk"},
    {"attention_slicing": True},
    {"vae_slicing": True},
    {"vae_tiling": True},
]


def pictures(handler: Any, ctx: Any) -> list[np.ndarray]:
    """Two of text, one of a picture, and the first two again: what was put away must come back."""
    made: list[t.Picture] = []
    for fields in ({"n": 2}, {"task": "edit", "images": (START,)}, {"n": 2}):
        request = t.ImageRequest(prompt="a fox", steps=3, seed=1, **fields)
        handler.validate_inputs(request)
        made += handler.generate_image(request, ctx).pictures
    return [np.frombuffer(picture.pixels, np.uint8).astype(int) for picture in made]


def difference(some: list[np.ndarray], others: list[np.ndarray]) -> int:
    return max(int(abs(one - other).max()) for one, other in zip(some, others, strict=True))


@pytest.fixture(scope="module")
def plain(folder_of, loader) -> dict[str, Any]:
    return {name: loader(folder_of(name)) for name in ("stable_diffusion", "stable_diffusion_3")}


@pytest.mark.parametrize("options", SETTINGS, ids=lambda options: "-".join(map(str, *options.items())))
@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_3"])
def test_a_setting_that_saves_memory_changes_no_picture(plain, folder_of, loader, collector, family, options) -> None:
    """Parts of a whole round differently from the whole, by one level of colour at most."""
    handler = loader(folder_of(family), options=options)
    assert difference(pictures(handler, collector()), pictures(plain[family], collector())) <= ("offload" not in options)


@pytest.mark.parametrize("offload", ["sequential", "group", "disk"])
def test_a_video_is_the_same_too(folder_of, loader, collector, offload: str) -> None:
    films = []
    for options in ({}, {"offload": offload}):
        ctx = collector()
        loader(folder_of("wan"), options=options).generate_video(t.VideoRequest(prompt="x", frames=5, steps=1, seed=1), ctx)
        films.append([delta for delta in ctx.deltas if isinstance(delta, t.FrameDelta)])
    assert films[0] == films[1]


def test_weights_on_a_disk_are_in_no_memory_and_leave_with_the_model(folder_of, loader, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handler = loader(folder_of("stable_diffusion"), options={"offload": "disk"})
    pipeline = handler._painter._studio.pipes.main
    assert {parameter.device.type for parameter in pipeline.unet.parameters()} == {"meta"}
    assert any(tmp_path.rglob("*.dat"))
    del handler, pipeline
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_pictures_come_back_after_a_request_was_ended_in_the_middle(plain, folder_of, loader, collector) -> None:
    handler = loader(folder_of("stable_diffusion"), options={"offload": "model"})
    with pytest.raises(InterruptedError):
        handler.generate_image(t.ImageRequest(prompt="a fox", steps=3), collector(emits=1, error=InterruptedError))
    assert difference(pictures(handler, collector()), pictures(plain["stable_diffusion"], collector())) == 0


# ---------------------------------------------------------------- smaller weights


def test_weights_kept_as_float8_draw_much_the_same_picture(plain, folder_of, loader, collector) -> None:
    import torch

    handler = loader(folder_of("stable_diffusion"), options={"quantization": "float8"})
    kept = {parameter.dtype for parameter in handler._painter._studio.pipes.main.unet.parameters()}
    assert torch.float8_e4m3fn in kept
    drawn = pictures(handler, collector())
    assert 0 < difference(drawn, pictures(plain["stable_diffusion"], collector())) < 32


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is an extra")
def test_weights_kept_as_int8_draw_much_the_same_picture(plain, folder_of, loader, collector) -> None:
    handler = loader(folder_of("stable_diffusion"), options={"quantization": "int8"})
    main = handler._painter._studio.pipes.main
    for part in (main.unet, main.text_encoder):
        assert any("Int8" in type(parameter).__name__ for parameter in part.parameters())
    assert difference(pictures(handler, collector()), pictures(plain["stable_diffusion"], collector())) < 16


def test_without_the_extra_int8_says_what_to_install(folder_of, loader, monkeypatch) -> None:
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match=r"openai-compat\[quantization\]"):
        loader(folder_of("stable_diffusion"), options={"quantization": "int8"})


@pytest.mark.parametrize("options", [{"offload": "moon"}, {"max_batch": 0}, {"sizes": ["big"]}, {"unknown": 1}])
def test_an_option_that_there_is_not_is_named(folder_of, loader, options) -> None:
    with pytest.raises(ModelUnavailable, match=next(iter(options))):
        loader(folder_of("stable_diffusion"), options=options)


# ---------------------------------------------------------------- the plan

MIB = 2**20
NEEDS = Needs(weights=4000 * MIB, largest=3000 * MIB, denoising=400 * MIB, decoding=3200 * MIB)


@pytest.mark.parametrize(
    ("free", "accelerator", "plan"),
    [
        (8000, True, Plan()),
        (5000, True, Plan(vae_slicing=True, vae_tiling=True)),
        (3500, True, Plan(True, True, True, "model")),
        (1000, True, Plan(True, True, True, "sequential")),
        (1000, False, Plan(True, True, True, "none")),
    ],
)
def test_the_least_that_fits_is_recommended(free: int, accelerator: bool, plan: Plan) -> None:
    assert recommend(NEEDS, free * MIB, accelerator=accelerator, pictures=4) == plan


def test_the_plan_is_used_where_nothing_is_set_and_a_setting_wins(folder_of, loader, monkeypatch) -> None:
    from handlers.painting import memory

    monkeypatch.setattr(memory, "free_bytes", lambda device: MIB)
    short = loader(folder_of("stable_diffusion"))._painter._studio
    assert short.placement.plan == Plan(True, True, True, "none")
    assert short.pipes.main.vae.use_tiling
    told = loader(folder_of("stable_diffusion"), options={"vae_tiling": False, "offload": "disk"})._painter._studio
    assert told.placement.plan == Plan(True, True, False, "disk")


@pytest.mark.parametrize(
    ("family", "size"), {"stable_diffusion": (32, 32), "pixart": (32, 32), "flux": (32, 32), "unconditional": (16, 16)}.items()
)
def test_the_native_size_is_read_from_the_files(folder_of, family: str, size: tuple[int, int]) -> None:
    assert native_size(Path(folder_of(family))) == size
