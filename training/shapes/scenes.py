"""What a picture of the data set shows: shapes of named colours on a background, their captions, and which are held out."""

from __future__ import annotations

import math
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
from msgspec import Struct, structs

SIZE = 64
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 210),
    "yellow": (240, 210, 50),
    "orange": (240, 130, 30),
    "purple": (140, 50, 170),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
NAMELESS = 60.0  # as far from every named colour, in steps of 255 over the three channels
COLOURS = tuple(PALETTE)
KINDS = ("circle", "square", "triangle")
# Distance from the centre to an edge and to a corner, in radii: chosen so that the three kinds look equally large.
APOTHEM = {"circle": 1.0, "square": 0.85, "triangle": 0.66}
REACH = {"circle": 1.0, "square": 0.85 * math.sqrt(2), "triangle": 1.32}
CORNERS = {"square": 4, "triangle": 3}

Combination: TypeAlias = tuple[str, str, str]
Colour: TypeAlias = tuple[float, float, float]
Split: TypeAlias = Literal["train", "held_out", "unseen_pairs", "labelled", "labelled_held_out"]

# No model but the classifier, which has to have a label for each, is ever shown these, on any background.
UNSEEN_PAIRS = (("green", "triangle"), ("yellow", "square"), ("purple", "circle"), ("orange", "triangle"))


class Shape(Struct, frozen=True, kw_only=True):
    """One shape; lengths in pixels, ``angle`` in radians, 0 with an edge at the bottom; ``tint`` a colour that has no name."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float
    tint: Colour | None = None

    def corners(self) -> list[tuple[float, float]]:
        """The corners of a square or triangle; none for a circle."""
        count = CORNERS.get(self.kind, 0)
        reach = self.radius * REACH[self.kind]
        turns = (self.angle + math.pi / 2 + math.pi * (2 * index + 1) / count for index in range(count))
        return [(self.x + reach * math.cos(turn), self.y + reach * math.sin(turn)) for turn in turns]

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        if self.kind == "circle":
            return self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius
        xs, ys = zip(*self.corners(), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


class Scene(Struct, frozen=True, kw_only=True):
    """A whole picture; ``noise`` is the deviation of its pixels, in steps of 255; ``ground`` a colour that has no name."""

    background: str
    shapes: tuple[Shape, ...]
    noise: float = 0.0
    ground: Colour | None = None

    @property
    def caption(self) -> str:
        things = " and ".join(with_article(f"{shape.colour} {shape.kind}") for shape in self.shapes)
        return f"{things} on {with_article(self.background)} background"

    @property
    def label(self) -> str:
        """Of the first shape: "red circle"."""
        return f"{self.shapes[0].colour} {self.shapes[0].kind}"


class Style(Struct, frozen=True, kw_only=True):
    """How far pictures vary: radii in pixels, the largest turn from upright in radians, the most noise."""

    radius: tuple[float, float]
    turn: float
    noise: float


PAINTED = Style(radius=(14.0, 19.0), turn=math.radians(10), noise=0.0)
UPRIGHT = Style(radius=(12.0, 20.0), turn=math.radians(10), noise=5.0)
LOOKED_AT = Style(radius=(9.0, 21.0), turn=math.pi, noise=5.0)
CROWDED = Style(radius=(6.0, 12.0), turn=math.pi, noise=5.0)


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def combinations(split: Split) -> tuple[Combination, ...]:
    """(colour, kind, background) of a split.

    ``train`` is what the models learn from; ``held_out`` is a fifth of the combinations of seen pairs, ``unseen_pairs`` all
    combinations of the others. A classifier cannot name a pair that it never saw: it learns ``labelled``, four fifths of the
    combinations of all pairs, and is measured on the rest, ``labelled_held_out``.
    """
    every = [(c, k, b) for c, k, b in product(COLOURS, KINDS, COLOURS) if c != b]
    if split == "labelled" or split == "labelled_held_out":
        return tuple(one for one in every if _held_out(one) == (split == "labelled_held_out"))
    if split == "unseen_pairs":
        return tuple(one for one in every if one[:2] in UNSEEN_PAIRS)
    seen = [one for one in every if one[:2] not in UNSEEN_PAIRS]
    return tuple(one for one in seen if _held_out(one) == (split == "held_out"))


def _held_out(one: Combination) -> bool:
    colour, kind, background = one
    return (COLOURS.index(colour) * 3 + KINDS.index(kind) + COLOURS.index(background) * 2) % 5 == 0


def single(rng: np.random.Generator, combination: Combination, style: Style) -> Scene:
    """A picture of one shape, wholly inside."""
    colour, kind, background = combination
    shape = _placed(rng, colour, kind, style)
    return Scene(background=background, shapes=(shape,), noise=float(rng.uniform(0, style.noise)))


def nameless(rng: np.random.Generator) -> Colour:
    """A colour that nobody would call by a name of the palette."""
    while True:
        red, green, blue = (float(part) for part in rng.uniform(0, 255, 3))
        if min(math.dist((red, green, blue), known) for known in PALETTE.values()) > NAMELESS:
            return red, green, blue


def disguised(scene: Scene, rng: np.random.Generator) -> Scene:
    """For models that name no colours: the background, or all the shapes, in colours without a name, or all as it is."""
    choice = rng.integers(3)
    if choice == 0:
        return structs.replace(scene, ground=nameless(rng))
    if choice == 1:
        return structs.replace(scene, shapes=tuple(structs.replace(shape, tint=nameless(rng)) for shape in scene.shapes))
    return scene


def crowd(rng: np.random.Generator, allowed: tuple[Combination, ...]) -> Scene:
    """A picture of one to three shapes that do not touch, all of combinations that ``allowed`` has."""
    background = allowed[rng.integers(len(allowed))][2]
    choice = [one for one in allowed if one[2] == background]
    wanted = int(rng.integers(1, 4))
    shapes: list[Shape] = []
    while len(shapes) < wanted:
        colour, kind, _ = choice[rng.integers(len(choice))]
        shape = _placed(rng, colour, kind, CROWDED if wanted > 1 else LOOKED_AT)
        if all(_apart(shape, other) for other in shapes):
            shapes.append(shape)
    return Scene(background=background, shapes=tuple(shapes), noise=float(rng.uniform(0, CROWDED.noise)))


def _placed(rng: np.random.Generator, colour: str, kind: str, style: Style) -> Shape:
    radius = float(rng.uniform(*style.radius))
    margin = radius * REACH[kind] + 1.5
    x, y = rng.uniform(margin, SIZE - margin, 2)
    turn = float(rng.uniform(-style.turn, style.turn))
    return Shape(kind=kind, colour=colour, x=float(x), y=float(y), radius=radius, angle=turn)


def _apart(one: Shape, other: Shape) -> bool:
    reaches = one.radius * REACH[one.kind] + other.radius * REACH[other.kind]
    return math.hypot(one.x - other.x, one.y - other.y) > reaches + 1.5
