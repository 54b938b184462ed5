"""COCO's run lengths, read back by a decoder that was written by hand from the format's description."""

from __future__ import annotations

import random

import numpy as np
import pytest

from openai_compat.translate.runs import compressed, run_lengths, stretched

PYCOCOTOOLS = {
    "rectangle": "Pe2n0l1" + "0" * 97 + "l_3",
    "stripes": "l1n0hb00000000f@0^N000000000^N0:0X100000000000^N0:0X100000000000^N0:0X100000000000^N0:0X100000000000"
    "^N0:0X100000000000^N0:0X100000000000^N0:0X10`<0\\4000000000",
}


def decoded(text: str) -> list[int]:
    """Five bits a letter, the lowest first, bit 5 says that more follow; from the fourth number on differences."""
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode():
        part = letter - 48
        value |= (part & 0x1F) << shift
        shift += 5
        if part & 0x20:
            continue
        if part & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def painted(counts: list[int], height: int, width: int) -> list[list[int]]:
    flat = [pixel for i, count in enumerate(counts) for pixel in [i % 2] * count]
    assert len(flat) == height * width
    return [[flat[x * height + y] for x in range(width)] for y in range(height)]


def as_lists(mask: np.ndarray) -> list[list[int]]:
    return (mask != 0).astype(int).tolist()


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[0, 1], [0, 1]], [2, 2]),
        ([[1, 0], [0, 0]], [0, 1, 3]),
    ],
)
def test_runs_go_down_the_columns_and_begin_with_nothing(rows: list[list[int]], counts: list[int]) -> None:
    assert run_lengths(np.array(rows, dtype=np.uint8) * 255).tolist() == counts


def test_the_text_is_the_one_that_pycocotools_writes() -> None:
    """Both texts are from pycocotools 2.0.11."""
    mask = np.zeros((90, 120), dtype=np.uint8)
    mask[20:50, 30:80] = 255
    assert compressed(run_lengths(mask)) == PYCOCOTOOLS["rectangle"]
    mask[60:, ::7] = 1
    assert compressed(run_lengths(mask)) == PYCOCOTOOLS["stripes"]


@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 70), (211, 97)])
def test_every_mask_comes_back(density: float, size: tuple[int, int]) -> None:
    height, width = size
    dice = random.Random(height)
    mask = np.array([[dice.random() < density for _ in range(width)] for _ in range(height)], dtype=np.uint8)
    text = compressed(run_lengths(mask))
    assert painted(decoded(text), height, width) == as_lists(mask)


def test_long_runs_come_back() -> None:
    mask = np.zeros((4000, 5000), dtype=bool)
    mask[-1, -1] = mask[7, 2500] = True
    assert decoded(compressed(run_lengths(mask))) == [2500 * 4000 + 7, 1, 20_000_000 - 2500 * 4000 - 9, 1]


def test_a_mask_is_stretched_to_the_nearest_pixel() -> None:
    mask = np.array([[1, 0], [0, 1]], dtype=np.uint8)
    assert stretched(mask, 4, 2).tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert stretched(mask, 3, 3).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert stretched(mask, 2, 2) is mask
