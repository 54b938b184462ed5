"""`/v1/images/generations`, `/v1/images/edits` and `/v1/images/variations`: requests, answers and events.

Of edits and variations these are the fields of a form, whose files are beside them; in a JSON body ``images``, ``image`` and
``mask`` take the files' place.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import Anything, Label, Mode, ModelName, ModeOptions, Name, Seed, Share
from schemas.messages import ImageUrl, Url

MAX_PROMPT = 32_000
MAX_PICTURES = 10
MAX_FILES = 16
MAX_SIDE = 4096
Prompt = Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT)]
NegativePrompt = Annotated[str, Meta(max_length=MAX_PROMPT)]
Count = Annotated[int, Meta(ge=1, le=MAX_PICTURES)]
Steps = Annotated[int, Meta(ge=1, le=500)]
Guidance = Annotated[float, Meta(ge=0, le=100)]
Size = Annotated[str, Meta(pattern=r"^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$", max_length=9)]
Percent = Annotated[int, Meta(ge=0, le=100)]
PictureFormat: TypeAlias = Literal["png", "webp", "jpeg"]
Background: TypeAlias = Literal["transparent", "opaque", "auto"]
Quality: TypeAlias = Literal["low", "medium", "high", "auto", "standard", "hd", "xhigh", "max"]


class PictureReference(Struct, frozen=True, kw_only=True):
    """``image_url`` is a data URL."""

    image_url: ImageUrl | Url | None = None
    file_id: Name | None = None


GivenPicture: TypeAlias = PictureReference | Url


class _PictureFields(Struct, frozen=True, kw_only=True):
    """What all three have in common; the second group is ours, beyond OpenAI's."""

    model: ModelName | None = None
    n: Count | None = None
    size: Size | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: Label | None = None

    negative_prompt: NegativePrompt | None = None
    seed: Seed | None = None
    steps: Steps | None = None
    num_inference_steps: Steps | None = None
    guidance: Guidance | None = None
    guidance_scale: Guidance | None = None
    mode: Mode | None = None
    mode_options: ModeOptions | None = None


class _PaintingFields(_PictureFields, frozen=True, kw_only=True):
    """What generations and edits have in common, and variations have not."""

    prompt: Prompt
    background: Background | None = None
    complexity: Label | None = None
    frame_count: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    frame_duration_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None
    moderation: Label | None = None
    output_compression: Percent | None = None
    output_format: PictureFormat | Literal["gif", "svg"] | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    quality: Quality | None = None
    safety_identifier: Label | None = None
    stream: bool | None = None
    svg: Anything | None = None


class ImageGenerationRequest(_PaintingFields, frozen=True, kw_only=True):
    style: Label | None = None


class ImageEditRequest(_PaintingFields, frozen=True, kw_only=True):
    """``strength`` is ours: how far the answer may go from the picture."""

    input_fidelity: Label | None = None
    image: GivenPicture | Annotated[list[GivenPicture], Meta(max_length=MAX_FILES)] | None = None
    images: Annotated[list[GivenPicture], Meta(max_length=MAX_FILES)] | None = None
    mask: GivenPicture | None = None
    markup: GivenPicture | None = None
    strength: Share | None = None


class JsonImageEditRequest(ImageEditRequest, frozen=True, kw_only=True):
    """One without a form: ``image`` or ``images`` must be there."""


class ImageVariationRequest(_PictureFields, frozen=True, kw_only=True):
    """``prompt`` and ``strength`` are ours."""

    image: GivenPicture | None = None
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT)] | None = None
    strength: Share | None = None


class JsonImageVariationRequest(ImageVariationRequest, frozen=True, kw_only=True):
    image: GivenPicture


# ---------------------------------------------------------------- answers


class PictureTokens(Struct, frozen=True, kw_only=True):
    text_tokens: int
    image_tokens: int = 0


class PictureUsage(Struct, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: PictureTokens


class MadePicture(Struct, frozen=True, kw_only=True):
    """``url`` stands in the place of ``b64_json`` where links were asked for."""

    b64_json: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


class Pictures(Struct, frozen=True, kw_only=True):
    """``size`` is that of the pictures; ``quality`` is there where it was asked for."""

    created: int
    data: list[MadePicture]
    output_format: PictureFormat
    size: str
    background: Literal["opaque"] = "opaque"
    quality: Literal["low", "medium", "high"] | UnsetType = UNSET
    usage: PictureUsage


class PictureEvent(Struct, frozen=True, kw_only=True):
    """An event of a stream. ``index`` is the picture's number where there are several, and ours.

    ``partial_image_index`` is in the partial ones alone, ``usage`` in the others.
    """

    type: Literal[
        "image_generation.partial_image", "image_generation.completed", "image_edit.partial_image", "image_edit.completed"
    ]
    b64_json: str
    created_at: int
    output_format: PictureFormat
    size: str
    quality: Literal["low", "medium", "high", "auto"]
    background: Literal["opaque"] = "opaque"
    index: int | UnsetType = UNSET
    partial_image_index: int | UnsetType = UNSET
    usage: PictureUsage | UnsetType = UNSET
