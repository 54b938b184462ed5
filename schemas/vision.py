"""`/v1/vision/classify`, `/detect`, `/segment` and `/depth`: requests and answers of endpoints of our own.

In a form the picture is a file beside the fields; in a JSON body ``image`` holds it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import Mode, ModelName, Share
from schemas.messages import ImageUrl, Url

SearchedLabel = Annotated[str, Meta(min_length=1, max_length=256)]
SearchedLabels = Annotated[list[SearchedLabel], Meta(max_length=1000)]
TopFindings = Annotated[int, Meta(ge=1, le=1000, description="The most findings, the likeliest first.")]


class ImageReference(Struct, frozen=True, kw_only=True):
    """As a content part of a chat holds it; ``type`` may be there and is not read."""

    image_url: ImageUrl | Url


Image = Url | ImageReference


class FindRequest(Struct, frozen=True, kw_only=True):
    """What to find. ``image`` is a ``data:`` URL, base64, or an object with an ``image_url``.

    ``labels`` are for models that look for whatever they are told.
    """

    model: ModelName
    image: Image | None = None
    labels: SearchedLabels | None = None
    threshold: Share | None = None
    top_k: TopFindings | None = None
    mode: Mode | None = None


class ClassifyRequest(FindRequest, frozen=True, kw_only=True):
    """What a picture shows."""


class DetectRequest(FindRequest, frozen=True, kw_only=True):
    """Things and the boxes around them."""


class SegmentRequest(FindRequest, frozen=True, kw_only=True):
    """Things and the pixels that belong to them. ``mask_format`` is ``png`` unless given."""

    mask_format: Literal["png", "rle"] | None = None


class DepthRequest(Struct, frozen=True, kw_only=True):
    """How far away each pixel is. ``depth_format`` is ``png16`` unless given."""

    model: ModelName
    image: Image | None = None
    depth_format: Literal["png16", "float32"] | None = None
    mode: Mode | None = None


class JsonClassifyRequest(ClassifyRequest, frozen=True, kw_only=True):
    image: Image


class JsonDetectRequest(DetectRequest, frozen=True, kw_only=True):
    image: Image


class JsonSegmentRequest(SegmentRequest, frozen=True, kw_only=True):
    image: Image


class JsonDepthRequest(DepthRequest, frozen=True, kw_only=True):
    image: Image


# ---------------------------------------------------------------- answers


class FoundBox(Struct, frozen=True, kw_only=True):
    """In pixels of the picture that was sent, from its left upper corner."""

    left: float
    top: float
    right: float
    bottom: float


class RunLengths(Struct, frozen=True, kw_only=True):
    """COCO's compressed run lengths, as ``pycocotools.mask.decode`` reads them; ``size`` is the height and the width."""

    size: tuple[int, int]
    counts: str


class Finding(Struct, frozen=True, kw_only=True):
    """``mask`` is a PNG of one channel as base64 (255 where it is), or run lengths, of the size of the picture."""

    label: str
    score: float
    box: FoundBox | UnsetType = UNSET
    mask: str | RunLengths | UnsetType = UNSET


class Findings(Struct, frozen=True, kw_only=True):
    """The likeliest first. ``width`` and ``height`` are those of the picture that was sent."""

    object: Literal["vision.classification", "vision.detection", "vision.segmentation"]
    model: str
    width: int
    height: int
    labels: list[Finding]


class DepthMap(Struct, frozen=True, kw_only=True):
    """``data`` is base64: of a PNG of 16 bits, in which 0 stands for ``min`` and 65535 for ``max``, or of little-endian float32
    numbers, rows from the top. The map may be smaller than the picture."""

    format: Literal["png16", "float32"]
    width: int
    height: int
    min: float
    max: float
    data: str


class DepthAnswer(Struct, frozen=True, kw_only=True):
    """With ``metric`` the numbers are metres, larger is farther; else they are relative, larger is nearer."""

    model: str
    width: int
    height: int
    metric: bool
    depth: DepthMap
    object: Literal["vision.depth"] = "vision.depth"


class VisionList(Struct, frozen=True, kw_only=True):
    """What a chat with several pictures is answered, in their order."""

    data: list[Findings | DepthAnswer]
    object: Literal["list"] = "list"
