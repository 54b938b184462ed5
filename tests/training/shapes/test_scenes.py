"""The data set keeps apart what is learnt and what is asked afterwards."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from training.shapes.scenes import (
    COLOURS,
    KINDS,
    LOOKED_AT,
    PAINTED,
    SIZE,
    UNSEEN_PAIRS,
    Scene,
    Shape,
    combinations,
    crowd,
    single,
)


def test_the_splits_share_nothing_and_are_everything() -> None:
    splits = [set(combinations(split)) for split in ("train", "held_out", "unseen_pairs")]
    every = {(c, k, b) for c, k, b in product(COLOURS, KINDS, COLOURS) if c != b}
    assert sum(map(len, splits)) == len(every)
    assert set.union(*splits) == every


def test_a_fifth_of_the_known_pairs_is_held_out_and_four_pairs_are_never_seen() -> None:
    assert [len(combinations(split)) for split in ("train", "held_out", "unseen_pairs")] == [115, 25, 28]
    assert not {one[:2] for one in combinations("train")} & set(UNSEEN_PAIRS)


def test_each_colour_kind_and_background_is_learnt_in_some_combination() -> None:
    colours, kinds, backgrounds = map(set, zip(*combinations("train"), strict=True))
    assert (colours, kinds, backgrounds) == (set(COLOURS), set(KINDS), set(COLOURS))


def test_the_classifier_learns_each_pair_and_is_asked_about_other_pictures_of_it() -> None:
    learnt, asked = set(combinations("labelled")), set(combinations("labelled_held_out"))
    assert not learnt & asked
    assert {one[:2] for one in learnt} == set(product(COLOURS, KINDS))


def test_captions_have_the_form_that_the_models_know() -> None:
    shape = Shape(kind="circle", colour="red", x=32, y=32, radius=9, angle=0)
    assert Scene(background="blue", shapes=(shape,)).caption == "a red circle on a blue background"
    two = (shape, Shape(kind="square", colour="orange", x=9, y=9, radius=5, angle=0))
    assert Scene(background="orange", shapes=two).caption == "a red circle and an orange square on an orange background"


@pytest.mark.parametrize("style", [PAINTED, LOOKED_AT])
def test_a_single_shape_is_wholly_inside(style) -> None:
    rng = np.random.default_rng(0)
    boxes = [single(rng, combination, style).shapes[0].box() for combination in combinations("train")]
    assert all(min(box) > 0 and max(box) < SIZE for box in boxes)


def test_shapes_of_a_crowd_do_not_touch_and_are_of_allowed_combinations() -> None:
    rng = np.random.default_rng(0)
    allowed = combinations("train")
    scenes = [crowd(rng, allowed) for _ in range(100)]
    assert {len(scene.shapes) for scene in scenes} == {1, 2, 3}
    assert all((shape.colour, shape.kind, scene.background) in allowed for scene in scenes for shape in scene.shapes)
