"""The committed models keep what they reach, loaded by the plain libraries; floors lie a little below the measured figures."""

from __future__ import annotations

import pytest

from openai_compat.gateway.scan import scan
from openai_compat.gateway.sources.types import bundled_names
from training.shapes.__main__ import MODELS
from training.shapes.figures import FIGURES, iou, wrong_captions
from training.shapes.scenes import Scene, Shape

QUICK = 53
FLOORS = {
    "painter": {"background": 0.98, "colour": 0.98, "shape": 0.94, "all": 0.94, "all, unseen pairs": 0.92},
    "clip": {"top-1 of 8": 0.97},
    "classifier": {"accuracy": 0.98},
    "detector": {"mean IoU": 0.84, "right boxes": 0.9},
    "segmenter": {"mean IoU": 0.95},
}


def too_low(figures: dict[str, float], name: str) -> dict[str, float]:
    return {what: figures[what] for what, floor in FLOORS[name].items() if figures[what] < floor}


def test_the_bundled_models_are_those_that_are_trained_and_pass_the_scan(bundled_folder) -> None:
    assert set(bundled_names()) == set(MODELS.values())
    assert {name: scan(bundled_folder(name)) for name in bundled_names()} == dict.fromkeys(bundled_names(), ())


def test_the_weights_are_small_and_in_half_precision(bundled_folder) -> None:
    from safetensors import safe_open

    files = [path for name in bundled_names() for path in bundled_folder(name).rglob("*.safetensors")]
    assert sum(path.stat().st_size for path in files) < 16_000_000
    for path in files:
        with safe_open(path, "pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}, path


@pytest.mark.parametrize("name", ["clip", "classifier", "detector", "segmenter"])
def test_a_model_that_looks_is_right_on_pictures_it_never_saw(bundled_folder, name) -> None:
    assert too_low(FIGURES[name](bundled_folder(MODELS[name])), name) == {}


@pytest.mark.slow
def test_the_painter_paints_what_it_never_saw(bundled_folder) -> None:
    assert too_low(FIGURES["painter"](bundled_folder("shapes")), "painter") == {}


def test_the_painter_paints_each_caption_that_it_never_saw_once(bundled_folder) -> None:
    from training.shapes.figures import painter

    figures = painter(bundled_folder("shapes"), QUICK)
    assert {what: value for what, value in figures.items() if value < FLOORS["painter"][what] - 0.1} == {}


def test_the_wrong_captions_are_seven_and_differ_in_one_thing() -> None:
    scene = Scene(background="blue", shapes=(Shape(kind="circle", colour="red", x=32, y=32, radius=9, angle=0),))
    wrong = list(wrong_captions(scene))[:7]
    assert len(set(wrong)) == 7
    words = scene.caption.replace("an ", "a ").split()
    differences = [sum(a != b for a, b in zip(words, one.replace("an ", "a ").split(), strict=True)) for one in wrong]
    assert differences == [1] * 7


def test_overlap_of_boxes() -> None:
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
