"""`/v1/vision/classify`, `/detect`, `/segment` and `/depth`: wire ⇄ domain."""

from __future__ import annotations

from typing import TypeAlias

from handlers.types import DepthResult, ImageTaskRequest, LabelResult, Picture, Verb, VisionTask
from openai_compat.errors import InvalidRequest
from openai_compat.translate.attachments import Attachment, first_remote, to_picture, url_of
from openai_compat.translate.common import Facts
from openai_compat.translate.findings import depth_of, findings_of
from schemas.vision import (
    ClassifyRequest,
    DepthAnswer,
    DepthRequest,
    DetectRequest,
    Findings,
    FindRequest,
    Image,
    SegmentRequest,
)

VisionBody: TypeAlias = ClassifyRequest | DetectRequest | SegmentRequest | DepthRequest
IMAGE = "image"
_TASKS: dict[type[VisionBody], VisionTask] = {
    ClassifyRequest: "classify",
    DetectRequest: "detect",
    SegmentRequest: "segment",
    DepthRequest: "depth",
}


def plan(body: VisionBody) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    if body.image is not None:
        attachment(body.image)
    if isinstance(body, FindRequest) and body.labels is not None and len(set(body.labels)) < len(body.labels):
        raise InvalidRequest("A label is given twice.", param="labels", code="invalid_value")
    return "process_image"


def remote(body: VisionBody) -> str | None:
    """The field that has the picture on another server."""
    if body.image is None:
        return None
    if isinstance(body.image, str):
        return first_remote([(IMAGE, body.image)])
    return first_remote([(f"{IMAGE}.image_url", url_of(body.image.image_url))])


def attachment(image: Image) -> Attachment:
    """The file in a JSON body. Raises ``InvalidRequest`` for what is no picture."""
    if not isinstance(image, str):
        return to_picture(image.image_url, f"{IMAGE}.image_url")
    return to_picture(image if ":" in image[:16] else f"data:;base64,{image}", IMAGE)


def to_request(body: VisionBody, picture: Picture, facts: Facts) -> ImageTaskRequest:
    """Raises what ``plan`` raises. The request's own mode wins over the one in the model's name."""
    plan(body)
    mode = body.mode or facts.mode
    task = task_of(body)
    if not isinstance(body, FindRequest):
        return ImageTaskRequest(picture=picture, task=task, mode=mode)
    labels = tuple(body.labels or ())
    return ImageTaskRequest(picture=picture, task=task, labels=labels, threshold=body.threshold, top_k=body.top_k, mode=mode)


def task_of(body: VisionBody) -> VisionTask:
    return next(task for kind, task in _TASKS.items() if isinstance(body, kind))


def to_response(result: LabelResult | DepthResult, body: VisionBody, picture: Picture, model: str) -> Findings | DepthAnswer:
    """Encodes masks and depths: keep it off the event loop."""
    if isinstance(result, DepthResult):
        form = body.depth_format if isinstance(body, DepthRequest) else None
        return depth_of(result, picture.full_size, model=model, form=form or "png16")
    masks = body.mask_format if isinstance(body, SegmentRequest) else None
    return findings_of(result, picture.full_size, model=model, masks=masks or "png")
