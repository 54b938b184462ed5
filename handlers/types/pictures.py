"""Pictures and videos, and what is found in them or in a recording."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from handlers.types.facts import Usage


class ImageRequest(Struct, frozen=True, kw_only=True):
    """Text to image; ``image`` and ``mask`` (encoded) make it an edit. Sizes in pixels."""

    prompt: str
    negative_prompt: str | None = None
    n: int = 1
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    image: bytes | None = None
    mask: bytes | None = None
    mode: str | None = None
    stream: bool = False


class VideoRequest(Struct, frozen=True, kw_only=True):
    prompt: str
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    mode: str | None = None


class ImageTaskRequest(Struct, frozen=True, kw_only=True):
    """An encoded picture and what to do with it."""

    image: bytes
    task: Literal["classify", "detect", "segment", "depth"]
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    mode: str | None = None


class Media(Struct, frozen=True, kw_only=True):
    """Encoded bytes with their MIME type."""

    data: bytes
    mime: str


class MediaDelta(Struct, frozen=True, kw_only=True):
    """A partial picture, encoded."""

    index: int
    data: bytes


class MediaResult(Struct, frozen=True, kw_only=True):
    items: tuple[Media, ...]
    usage: Usage = Usage()


class Label(Struct, frozen=True, kw_only=True):
    """A finding in a picture or recording; ``box`` is (left, top, right, bottom) in pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float] | None = None
    mask: bytes | None = None


class LabelResult(Struct, frozen=True, kw_only=True):
    labels: tuple[Label, ...]
