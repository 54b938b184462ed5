"""What a picture of one shape shows, found from its pixels alone: no trained model takes part.

The background is what lies along the frame; the shape is what differs from it; its kind is that of the drawn shape which,
with the same middle and area and turned as fits best, overlaps it most.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from training.shapes.data import Picture, Reals, coverage
from training.shapes.scenes import APOTHEM, COLOURS, CORNERS, KINDS, PALETTE, Scene, Shape

Flags: TypeAlias = NDArray[np.bool_]
FRAME = 2  # pixels
DIFFERENT = 50.0  # from the background, in steps of 255 over the three channels
TURNS = 18
# A form that fits no drawn shape better than this is none.
RECOGNISABLE = 0.75


class Seen(Struct, frozen=True, kw_only=True):
    """What was found; ``kind`` is empty where no form can be made out, ``fit`` is its overlap with the drawn shape."""

    background: str
    colour: str
    kind: str
    fit: float

    def is_right(self, scene: Scene) -> bool:
        shape = scene.shapes[0]
        return (self.background, self.colour, self.kind) == (scene.background, shape.colour, shape.kind)


def look(picture: Picture) -> Seen:
    """Measure a picture of one shape on a plain background."""
    pixels = picture.astype(np.float32)
    background = _frame_colour(pixels)
    form = _largest(np.linalg.norm(pixels - background, axis=2) > DIFFERENT)
    if form.sum() < 30:
        return Seen(background=_name(background), colour="", kind="", fit=0.0)
    colour = np.median(pixels[_inner(form)], axis=0)
    kind, fit = _kind(_opacity(pixels, background, colour) * _grown(form))
    return Seen(background=_name(background), colour=_name(colour), kind=kind if fit >= RECOGNISABLE else "", fit=fit)


def _frame_colour(pixels: Reals) -> Reals:
    sides = (pixels[:FRAME], pixels[-FRAME:], pixels[:, :FRAME], pixels[:, -FRAME:])
    middle: Reals = np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    return middle


def _name(colour: Reals) -> str:
    """The palette's nearest colour."""
    return min(COLOURS, key=lambda name: float(np.linalg.norm(colour - np.array(PALETTE[name]))))


def _grown(form: Flags) -> Flags:
    padded = np.pad(form, 1)
    return form | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _inner(form: Flags) -> Flags:
    """Without its outermost pixels, where colours mix; all of it where nothing else is left."""
    inner = ~_grown(_grown(~form))
    return inner if inner.any() else form


def _largest(different: Flags) -> Flags:
    """The largest connected part."""
    best, left = np.zeros_like(different), different.copy()
    while left.any():
        part = np.zeros_like(left)
        part.flat[int(left.argmax())] = True
        size = 0
        while part.sum() != size:
            size = int(part.sum())
            part = _grown(part) & left
        left &= ~part
        best = part if size > best.sum() else best
    return best


def _opacity(pixels: Reals, background: Reals, colour: Reals) -> Reals:
    """How far each pixel is from the background's colour towards the shape's, 0 to 1."""
    way = colour - background
    share: Reals = np.clip((pixels - background) @ way / max(float(way @ way), 1.0), 0.0, 1.0)
    return share


def _kind(form: Reals) -> tuple[str, float]:
    """The kind that fits best, and how well."""
    fits = {kind: max(_overlap(form, shape) for shape in _candidates(form, kind)) for kind in KINDS}
    best = max(fits, key=lambda kind: fits[kind])
    return best, fits[best]


def _candidates(form: Reals, kind: str) -> list[Shape]:
    """Drawn shapes with the form's middle and area, at all turns."""
    area, (height, width) = float(form.sum()), form.shape
    x = float(form.sum(0) @ (np.arange(width) + 0.5)) / area
    y = float(form.sum(1) @ (np.arange(height) + 0.5)) / area
    count = CORNERS.get(kind, 0)
    unit = count * math.tan(math.pi / count) * APOTHEM[kind] ** 2 if count else math.pi
    turns = [2 * math.pi / count * index / TURNS for index in range(TURNS)] if count else [0.0]
    return [Shape(kind=kind, colour="", x=x, y=y, radius=math.sqrt(area / unit), angle=turn) for turn in turns]


def _overlap(form: Reals, shape: Shape) -> float:
    drawn = coverage(shape)
    return float(np.minimum(form, drawn).sum() / np.maximum(form, drawn).sum())
