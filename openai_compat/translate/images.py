"""`/v1/images/generations`, `/edits` and `/variations`: wire ⇄ domain."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from handlers.types import ImageRequest, Picture, PictureDelta, PictureResult, Usage, Verb
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.attachments import Attachment, Media, first_remote, picture_at, to_picture, url_of
from openai_compat.translate.common import Facts, Refusal, check_one_line, refuse
from openai_compat.translate.masks import erased, mask_of, without_alpha
from schemas.images import (
    MAX_FILES,
    MAX_SIDE,
    GivenPicture,
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    JsonImageEditRequest,
    MadePicture,
    PictureEvent,
    PictureFormat,
    PictureReference,
    Pictures,
    PictureTokens,
    PictureUsage,
)

Painting: TypeAlias = ImageGenerationRequest | ImageEditRequest
PictureBody: TypeAlias = Painting | ImageVariationRequest
Level: TypeAlias = Literal["low", "medium", "high"]
MASK = "mask"
_LEVELS: dict[str, Level] = {"low": "low", "medium": "medium", "standard": "medium", "high": "high", "hd": "high"}
_encode = msgspec.json.Encoder().encode

REFUSED: tuple[Refusal, ...] = (
    Refusal("background", "Pictures are opaque.", lambda b: b.background == "transparent"),
    Refusal("output_format", "png, webp and jpeg are made.", lambda b: b.output_format in ("gif", "svg")),
    Refusal("quality", "low, medium and high are known.", lambda b: b.quality in ("xhigh", "max")),
    Refusal("frame_count", "Animations are not made.", lambda b: b.frame_count is not None),
    Refusal("frame_duration_ms", "Animations are not made.", lambda b: b.frame_duration_ms is not None),
    Refusal("svg", "Drawings are not made.", lambda b: b.svg is not None),
)


# ---------------------------------------------------------------- request


def plan(body: PictureBody) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    _check(body)
    if not attachments_of(body) and isinstance(body, JsonImageEditRequest):
        raise missing_picture()
    return "generate_image"


def wants_links(body: PictureBody) -> bool:
    return body.response_format == "url"


def attachments_of(body: PictureBody) -> tuple[Attachment, ...]:
    """The pictures of a JSON body; a form has files instead. Raises ``InvalidRequest`` naming the field at fault."""
    given = _given(body)
    check_count(len([param for param, _ in given if param != MASK]))
    return tuple(_attachment(picture, param) for param, picture in given)


def remote(body: PictureBody) -> str | None:
    """The first field that has its picture on another server."""
    texts = ((param, picture) if isinstance(picture, str) else _linked(picture, param) for param, picture in _given(body))
    return first_remote(texts)


def _given(body: PictureBody) -> list[tuple[str, GivenPicture]]:
    """The pictures of a JSON body, the mask last, and the fields that hold them."""
    if isinstance(body, ImageGenerationRequest):
        return []
    given: list[tuple[str, GivenPicture]] = []
    if isinstance(body, ImageEditRequest):
        given += [(f"images[{i}]", picture) for i, picture in enumerate(body.images or ())]
    if isinstance(body.image, list):
        given += [(f"image[{i}]", picture) for i, picture in enumerate(body.image)]
    elif body.image is not None:
        given.append(("image", body.image))
    if isinstance(body, ImageEditRequest) and body.mask is not None:
        given.append((MASK, body.mask))
    return given


def _linked(picture: PictureReference, param: str) -> tuple[str, str]:
    return f"{param}.image_url", "" if picture.image_url is None else url_of(picture.image_url)


def missing_picture() -> InvalidRequest:
    return InvalidRequest("Missing required parameter: 'image'.", param="image", code="missing_required_parameter")


def check_count(count: int) -> None:
    if count > MAX_FILES:
        raise InvalidRequest(f"At most {MAX_FILES} pictures are allowed; {count} were sent.", param="image")


def check_variation(params: Sequence[str]) -> None:
    """Raises ``InvalidRequest`` unless these files of a form are at most one picture."""
    if MASK in params:
        raise UnsupportedParameter(f"Unsupported parameter: '{MASK}'. Variations have none; edits have.", param=MASK)
    if len(params) > 1:
        raise InvalidRequest(f"The form holds {len(params)} pictures; one is expected.", param="image")


def _attachment(given: GivenPicture, param: str) -> Attachment:
    if isinstance(given, str):
        return to_picture(given, param, alpha=True)
    if given.file_id is not None:
        raise UnsupportedParameter("Files are not kept; send the picture itself.", param=f"{param}.file_id")
    if given.image_url is None:
        raise InvalidRequest(f"Missing required parameter: '{param}.image_url'.", param=f"{param}.image_url")
    return to_picture(given.image_url, f"{param}.image_url", alpha=True)


def to_generation(body: ImageGenerationRequest, facts: Facts) -> ImageRequest:
    """Raises what ``plan`` raises. The request's own mode wins over the one in the model's name."""
    _check(body)
    return replace(_request(body, facts), **_painted(body))


def to_edit(body: ImageEditRequest, facts: Facts, files: Sequence[Attachment], media: Media) -> ImageRequest:
    """``files`` are the pictures, and the mask where there is one, of form or body; ``media`` is what was decoded of them.

    Without a mask, what is transparent in the first picture is what may change.
    """
    _check(body)
    pictures = [picture_at(media, file.param) for file in files if not _is_mask(file)]
    if not pictures:
        raise missing_picture()
    mask = next((mask_of(picture_at(media, file.param), pictures[0], file.param) for file in files if _is_mask(file)), None)
    return replace(
        _request(body, facts),
        **_painted(body),
        task="edit",
        images=tuple(map(without_alpha, pictures)),
        mask=mask or erased(pictures[0]),
        strength=body.strength,
    )


def to_variation(body: ImageVariationRequest, facts: Facts, files: Sequence[Attachment], media: Media) -> ImageRequest:
    _check(body)
    pictures = tuple(without_alpha(picture_at(media, file.param)) for file in files)
    if len(pictures) != 1:
        raise missing_picture()
    return replace(_request(body, facts), prompt=body.prompt or "", task="vary", images=pictures, strength=body.strength)


def _is_mask(file: Attachment) -> bool:
    return file.param.partition(".")[0] == MASK


def _check(body: PictureBody) -> None:
    _size_of(body)
    for name, other in (("steps", "num_inference_steps"), ("guidance", "guidance_scale")):
        if None not in (getattr(body, name), getattr(body, other)) and getattr(body, name) != getattr(body, other):
            raise InvalidRequest(f"'{name}' and '{other}' are two names of one thing, and differ.", param=other)
    if isinstance(body, ImageVariationRequest):
        return
    refuse(body, REFUSED)
    if isinstance(body, ImageEditRequest) and body.markup is not None:
        raise markup_refused()
    if body.output_compression not in (None, 100) and format_of(body) == "png":
        raise InvalidRequest("PNG is never compressed with loss; use webp or jpeg.", param="output_compression")
    if body.stream and wants_links(body):
        raise InvalidRequest("A stream holds the pictures themselves, not links.", param="response_format")


def markup_refused() -> UnsupportedParameter:
    return UnsupportedParameter("Unsupported parameter: 'markup'. Send a mask.", param="markup")


def _request(body: PictureBody, facts: Facts) -> ImageRequest:
    width, height = _size_of(body)
    return ImageRequest(
        prompt="",
        negative_prompt=body.negative_prompt or None,
        n=body.n or 1,
        width=width,
        height=height,
        steps=body.num_inference_steps if body.steps is None else body.steps,
        guidance=body.guidance_scale if body.guidance is None else body.guidance,
        seed=body.seed,
        mode=body.mode or facts.mode,
        mode_options=body.mode_options or {},
    )


def _painted(body: Painting) -> dict[str, object]:
    return {
        "prompt": body.prompt,
        "quality": _LEVELS.get(body.quality or "auto"),
        "partial_images": (body.partial_images or 0) if body.stream else 0,
        "stream": bool(body.stream),
    }


def _size_of(body: PictureBody) -> tuple[int | None, int | None]:
    """Raises ``InvalidRequest``; which sizes a model can make, it says itself."""
    if body.size is None or body.size == "auto":
        return None, None
    check_one_line(body.size, "size")
    width, height = map(int, body.size.split("x"))
    if max(width, height) > MAX_SIDE:
        raise InvalidRequest(f"'size' can be {MAX_SIDE} pixels a side at most.", param="size", code="invalid_value")
    return width, height


# ---------------------------------------------------------------- answer


def format_of(body: PictureBody) -> PictureFormat:
    found = None if isinstance(body, ImageVariationRequest) else body.output_format
    return found if found in ("png", "webp", "jpeg") else "png"


def compression_of(body: PictureBody) -> int | None:
    return None if isinstance(body, ImageVariationRequest) else body.output_compression


def to_response(result: PictureResult, files: Sequence[bytes], body: PictureBody, *, created: int) -> Pictures:
    """``files`` are the encoded pictures of ``result``."""
    return Pictures(
        created=created,
        data=[MadePicture(b64_json=base64(file)) for file in files],
        output_format=format_of(body),
        size=_size(result.pictures[0]) if result.pictures else "",
        quality=_quality(body) or UNSET,
        usage=_usage(result.usage),
    )


class PictureEvents:
    """Makes the events of one streamed answer; ``created`` is a Unix time."""

    def __init__(self, body: Painting, *, created: int) -> None:
        self._body = body
        self._created = created
        self._name = "image_edit" if isinstance(body, ImageEditRequest) else "image_generation"
        self._several = (body.n or 1) > 1

    def partial(self, delta: PictureDelta, file: bytes) -> bytes:
        return self._event("partial_image", delta.picture, file, delta.index, partial=delta.partial)

    def completed(self, result: PictureResult, index: int, file: bytes) -> bytes:
        """The usage of all pictures stands in the last one's event, so that it can be added up."""
        last = index == len(result.pictures) - 1
        usage = _usage(result.usage if last else Usage())
        return self._event("completed", result.pictures[index], file, index, usage=usage)

    def _event(
        self,
        what: str,
        picture: Picture,
        file: bytes,
        index: int,
        *,
        partial: int | UnsetType = UNSET,
        usage: PictureUsage | UnsetType = UNSET,
    ) -> bytes:
        event = PictureEvent(
            type=f"{self._name}.{what}",  # type: ignore[arg-type]
            b64_json=base64(file),
            created_at=self._created,
            output_format=format_of(self._body),
            size=_size(picture),
            quality=_quality(self._body) or "auto",
            index=index if self._several else UNSET,
            partial_image_index=partial,
            usage=usage,
        )
        return b"event: " + event.type.encode() + b"\ndata: " + _encode(event) + b"\n\n"


def base64(file: bytes) -> str:
    return b64encode(file).decode("ascii")


def _quality(body: PictureBody) -> Level | None:
    return None if isinstance(body, ImageVariationRequest) else _LEVELS.get(body.quality or "auto")


def _size(picture: Picture) -> str:
    return f"{picture.width}x{picture.height}"


def _usage(usage: Usage) -> PictureUsage:
    return PictureUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_tokens_details=PictureTokens(text_tokens=usage.prompt_tokens),
    )
