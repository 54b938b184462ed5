"""Pictures, masks and boxes tell the same, and are the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from training.shapes.data import coverage, crowds, draw, mask, singles
from training.shapes.scenes import KINDS, LOOKED_AT, PALETTE, Scene, Shape, combinations


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    first, again, other = (singles(seed, 6, combinations("train"), LOOKED_AT) for seed in (1, 1, 2))
    assert [scene for scene, _ in first] == [scene for scene, _ in again]
    assert all(np.array_equal(one, two) for (_, one), (_, two) in zip(first, again, strict=True))
    assert not any(np.array_equal(one, two) for (_, one), (_, two) in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_as_tight_as_what_is_drawn(kind) -> None:
    for angle in np.linspace(0, 2, 7):
        shape = Shape(kind=kind, colour="red", x=30.3, y=33.9, radius=17, angle=float(angle))
        ys, xs = np.nonzero(coverage(shape) > 0.5)
        left, top, right, bottom = shape.box()
        drawn = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert np.allclose(drawn, (left, top, right, bottom), atol=2.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_has_its_shape_inside(kind) -> None:
    shape = Shape(kind=kind, colour="red", x=32, y=32, radius=15, angle=0.4)
    left, top, right, bottom = shape.box()
    ys, xs = np.nonzero(coverage(shape) > 0.5)
    assert xs.min() + 0.5 > left - 0.5
    assert xs.max() + 0.5 < right + 0.5
    assert ys.min() + 0.5 > top - 0.5
    assert ys.max() + 0.5 < bottom + 0.5


def test_a_triangle_without_a_turn_stands_on_its_side() -> None:
    rows = coverage(Shape(kind="triangle", colour="red", x=32, y=32, radius=15, angle=0.0)).sum(1)
    filled = rows[rows > 0.5]
    assert filled[0] < 4
    assert filled[-2] > 25


def test_colours_are_those_of_the_caption() -> None:
    shape = Shape(kind="square", colour="yellow", x=32, y=32, radius=15, angle=0.0)
    picture = draw(Scene(background="purple", shapes=(shape,)), np.random.default_rng(0))
    assert np.allclose(picture[32, 32], PALETTE["yellow"], atol=11)
    assert np.allclose(picture[2, 2], PALETTE["purple"], atol=11)


def test_a_mask_names_each_shape_where_it_is() -> None:
    for scene, _ in crowds(3, 20, combinations("train")):
        classes = mask(scene)
        assert all(classes[int(shape.y), int(shape.x)] == KINDS.index(shape.kind) + 1 for shape in scene.shapes)
        assert classes[0, 0] == 0
        covered = sum(coverage(shape) for shape in scene.shapes)
        assert abs(int((classes > 0).sum()) - float(covered.sum())) < 0.1 * float(covered.sum())
