"""The measurement of pictures is right where the truth is known, and says so where there is nothing to see."""

from __future__ import annotations

import numpy as np
import pytest

from training.shapes.data import singles
from training.shapes.measure import look
from training.shapes.scenes import LOOKED_AT, PAINTED, combinations

EVERY = combinations("train") + combinations("held_out") + combinations("unseen_pairs")


@pytest.mark.parametrize("style", [PAINTED, LOOKED_AT])
def test_drawn_pictures_are_measured_right(style) -> None:
    made = singles(7, len(EVERY), EVERY, style)
    wrong = [(scene.caption, seen) for scene, picture in made if not (seen := look(picture)).is_right(scene)]
    assert len(wrong) <= len(made) // 100, wrong


def test_an_empty_picture_shows_its_background_alone() -> None:
    picture = np.full((64, 64, 3), (40, 70, 210), np.uint8)
    seen = look(picture)
    assert (seen.background, seen.colour, seen.kind) == ("blue", "", "")


def test_a_form_that_is_none_of_the_kinds_has_no_name() -> None:
    picture = np.full((64, 64, 3), 245, np.uint8)
    picture[10:54, 29:35] = (20, 20, 20)
    picture[29:35, 10:54] = (20, 20, 20)
    seen = look(picture)
    assert (seen.background, seen.colour, seen.kind) == ("white", "black", "")


def test_noise_alone_is_no_shape() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert look(picture).kind == ""
