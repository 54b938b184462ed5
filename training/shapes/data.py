"""The pictures themselves: scenes drawn with soft edges, with boxes, masks and captions; the same for the same seed."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.shapes.scenes import (
    APOTHEM,
    CORNERS,
    KINDS,
    PALETTE,
    SIZE,
    Colour,
    Combination,
    Scene,
    Shape,
    Style,
    crowd,
    single,
)

Picture: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.uint8]
Reals: TypeAlias = NDArray[np.float32]
TINT = 10  # how far a colour may be from the palette's, in steps of 255
_CENTRES = np.arange(SIZE, dtype=np.float32) + 0.5
_X, _Y = _CENTRES[None, :], _CENTRES[:, None]


def coverage(shape: Shape) -> Reals:
    """How much of each pixel the shape covers, 0 to 1."""
    covered: Reals = np.clip(0.5 - _distance(shape), 0.0, 1.0).astype(np.float32)
    return covered


def _distance(shape: Shape) -> Reals:
    """From each pixel's centre to the shape's edge, negative inside."""
    x, y = _X - shape.x, _Y - shape.y
    if shape.kind == "circle":
        round_edge: Reals = np.hypot(x, y) - np.float32(shape.radius)
        return round_edge
    count = CORNERS[shape.kind]
    turns = [shape.angle + math.pi / 2 + 2 * math.pi * index / count for index in range(count)]
    sides = [x * np.float32(math.cos(turn)) + y * np.float32(math.sin(turn)) for turn in turns]
    straight_edges: Reals = np.maximum.reduce(sides) - np.float32(shape.radius * APOTHEM[shape.kind])
    return straight_edges


def draw(scene: Scene, rng: np.random.Generator) -> Picture:
    """The picture, 8-bit RGB; ``rng`` gives the tints and the noise."""
    canvas = np.broadcast_to(scene.ground or _tinted(scene.background, rng), (SIZE, SIZE, 3))
    for shape in scene.shapes:
        covered = coverage(shape)[..., None]
        canvas = canvas * (1 - covered) + np.array(shape.tint or _tinted(shape.colour, rng)) * covered
    if scene.noise:
        canvas = canvas + rng.normal(0.0, scene.noise, canvas.shape)
    picture: Picture = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return picture


def _tinted(colour: str, rng: np.random.Generator) -> Colour:
    red, green, blue = (float(part) for part in np.array(PALETTE[colour]) + rng.uniform(-TINT, TINT, 3))
    return red, green, blue


def mask(scene: Scene) -> Mask:
    """The class of every pixel: 0 is background, then the kinds in their order."""
    classes = np.zeros((SIZE, SIZE), np.uint8)
    for shape in scene.shapes:
        classes[coverage(shape) > 0.5] = KINDS.index(shape.kind) + 1
    return classes


def singles(seed: int, count: int, allowed: tuple[Combination, ...], style: Style) -> list[tuple[Scene, Picture]]:
    """``count`` pictures of one shape, the combinations in turn, so that each comes equally often."""
    rng = np.random.default_rng(seed)
    scenes = [single(rng, allowed[index % len(allowed)], style) for index in range(count)]
    return [(scene, draw(scene, rng)) for scene in scenes]


def crowds(seed: int, count: int, allowed: tuple[Combination, ...]) -> list[tuple[Scene, Picture]]:
    """``count`` pictures of one to three shapes."""
    rng = np.random.default_rng(seed)
    scenes = [crowd(rng, allowed) for _ in range(count)]
    return [(scene, draw(scene, rng)) for scene in scenes]
