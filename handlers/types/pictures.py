"""Pictures and videos: decoded ones, what is asked of them, and what is found in them or in a recording."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from handlers.types.facts import Usage

VisionTask: TypeAlias = Literal["classify", "detect", "segment", "depth"]
Box: TypeAlias = tuple[float, float, float, float]


class Picture(Struct, frozen=True, kw_only=True):
    """Decoded pixels: 8 bits a channel, rows from the top, ``channels`` interleaved (1 grey, 3 RGB, 4 RGBA, straight alpha).

    ``full_width`` and ``full_height`` are the size of the picture that was sent, where it was reduced on the way.
    """

    width: int
    height: int
    pixels: bytes
    channels: Literal[1, 3, 4] = 3
    full_width: int = 0
    full_height: int = 0

    @property
    def full_size(self) -> tuple[int, int]:
        """Width and height of the picture that was sent."""
        return self.full_width or self.width, self.full_height or self.height


class ImageRequest(Struct, frozen=True, kw_only=True):
    """Text to image; with ``images`` an edit of the first of them, or a variation. Sizes in pixels.

    ``mask`` has one channel: 255 where the picture may change, 0 where it stays. ``strength`` says how far an edit may go from
    what it started from, 0 to 1. ``partial_images`` is how many pictures to show on the way.
    """

    prompt: str
    task: Literal["generate", "edit", "vary"] = "generate"
    negative_prompt: str | None = None
    n: int = 1
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    images: tuple[Picture, ...] = ()
    mask: Picture | None = None
    strength: float | None = None
    quality: Literal["low", "medium", "high"] | None = None
    partial_images: int = 0
    mode: str | None = None
    mode_options: dict[str, str] = {}
    stream: bool = False


class VideoRequest(Struct, frozen=True, kw_only=True):
    """Text to video, or with ``image`` a video that begins with it.

    ``rate`` is frames a second; ``frames`` wins over ``seconds``.
    """

    prompt: str
    negative_prompt: str | None = None
    seconds: float | None = None
    frames: int | None = None
    rate: float | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    image: Picture | None = None
    mode: str | None = None
    mode_options: dict[str, str] = {}


class ImageTaskRequest(Struct, frozen=True, kw_only=True):
    """A picture and what to find in it.

    ``task`` None is what the model was made for. ``labels`` are the things to look for, for models that take any;
    ``threshold`` is the least score, 0 to 1; ``top_k`` the most findings.
    """

    picture: Picture
    task: VisionTask | None = None
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    top_k: int | None = None
    mode: str | None = None


class PictureDelta(Struct, frozen=True, kw_only=True):
    """Picture ``index`` of the answer as it looks on the way; ``partial`` counts those shown of it, from 0."""

    index: int
    picture: Picture
    partial: int = 0


class FrameDelta(Struct, frozen=True, kw_only=True):
    """The next frame of a video; all have the same size."""

    picture: Picture


class ProgressDelta(Struct, frozen=True, kw_only=True):
    """``done`` of ``total`` steps."""

    done: int
    total: int


class PictureResult(Struct, frozen=True, kw_only=True):
    pictures: tuple[Picture, ...]
    usage: Usage = Usage()


class VideoResult(Struct, frozen=True, kw_only=True):
    """The end of a video, all frames of which were emitted before; ``rate`` is frames a second."""

    frames: int
    rate: float
    usage: Usage = Usage()


class Label(Struct, frozen=True, kw_only=True):
    """A finding in a picture or recording.

    ``box`` is (left, top, right, bottom) in pixels of the picture that was sent; ``mask`` has one channel, 255 where it is, and
    the size of the picture that the handler got.
    """

    label: str
    score: float
    box: Box | None = None
    mask: Picture | None = None


class LabelResult(Struct, frozen=True, kw_only=True):
    """Findings, the best first."""

    labels: tuple[Label, ...]
    task: VisionTask = "classify"


class DepthResult(Struct, frozen=True, kw_only=True):
    """The depth at each pixel of the picture that the handler got: float32, little-endian, rows from the top.

    ``metric``: distances in metres; else relative, larger is nearer.
    """

    width: int
    height: int
    values: bytes
    metric: bool = False


class Sighting(Struct, frozen=True, kw_only=True):
    """What was found in one picture, and the size in which that was sent."""

    width: int
    height: int
    found: LabelResult | DepthResult


class SightResult(Struct, frozen=True, kw_only=True):
    """The answer to a chat of a model that looks and does not talk: its pictures, in their order."""

    sightings: tuple[Sighting, ...]
    usage: Usage = Usage()
