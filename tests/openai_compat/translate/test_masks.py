from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.types import Picture
from openai_compat.errors import InvalidRequest
from openai_compat.translate.masks import erased, mask_of, without_alpha

PICTURE = Picture(width=2, height=1, pixels=bytes(6))


def rgba(*alphas: int, full: tuple[int, int] = (0, 0)) -> Picture:
    pixels = b"".join(bytes((1, 2, 3, alpha)) for alpha in alphas)
    return Picture(width=len(alphas), height=1, pixels=pixels, channels=4, full_width=full[0], full_height=full[1])


@given(alphas=st.lists(st.integers(0, 255), min_size=1, max_size=20))
def test_the_more_transparent_the_more_may_change(alphas) -> None:
    found = erased(rgba(*alphas))
    if set(alphas) == {255}:
        assert found is None
    else:
        assert found is not None
        assert (found.channels, list(found.pixels)) == (1, [255 - alpha for alpha in alphas])


def test_a_picture_without_transparency_has_nothing_erased() -> None:
    assert erased(PICTURE) is None


def test_a_mask_keeps_its_size() -> None:
    found = mask_of(rgba(0, 255), PICTURE, "mask")
    assert (found.width, found.height, found.pixels) == (2, 1, b"\xff\0")


@pytest.mark.parametrize(
    ("mask", "picture", "reason"),
    [
        (rgba(0, 0, 0), PICTURE, "3x1 and 2x1"),
        (rgba(0, 255, full=(4, 2)), PICTURE, "4x2 and 2x1"),
        (rgba(255, 255), PICTURE, "transparent"),
        (PICTURE, PICTURE, "transparent"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(mask, picture, reason) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        mask_of(mask, picture, "mask.image_url")
    assert caught.value.param == "mask.image_url"


@given(pixels=st.binary(min_size=4, max_size=40).filter(lambda data: len(data) % 4 == 0))
def test_colours_stay_when_transparency_goes(pixels) -> None:
    picture = Picture(width=len(pixels) // 4, height=1, pixels=pixels, channels=4)
    plain = without_alpha(picture)
    assert plain.channels == 3
    assert plain.pixels == b"".join(pixels[i : i + 3] for i in range(0, len(pixels), 4))
    assert without_alpha(plain) is plain
