"""`/v1/videos`: wire ⇄ domain."""

from __future__ import annotations

from handlers.types import Picture, Verb, VideoRequest
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.attachments import Attachment, to_picture
from openai_compat.translate.common import Facts, check_one_line
from schemas.videos import MAX_SECONDS, CreateVideoRequest, Variant

REFERENCE = "input_reference"
MAX_SIDE = 4096
MIN_SIDE = 16
UNKNOWN = "auto"
_WIRE_NAMES = {"image": REFERENCE, "rate": "fps", "width": "size", "height": "size"}


def plan(body: CreateVideoRequest) -> Verb:
    """Raises ``InvalidRequest`` for what no model could make. The picture is looked at by ``reference``."""
    if not body.prompt.strip():
        raise InvalidRequest("'prompt' must hold some text.", param="prompt")
    seconds_of(body)
    size_of(body)
    return "generate_video"


def reference(body: CreateVideoRequest) -> Attachment | None:
    """The picture that the video is to begin with. Raises ``InvalidRequest`` naming its field."""
    given = body.input_reference
    if given is None:
        return None
    if given.file_id is not None:
        reason = "Files are not kept by this server; send the picture itself."
        raise UnsupportedParameter(f"Unsupported parameter: '{REFERENCE}.file_id'. {reason}", param=f"{REFERENCE}.file_id")
    if given.image_url is None:
        raise InvalidRequest(f"'{REFERENCE}' holds no picture.", param=REFERENCE)
    return to_picture(given.image_url, f"{REFERENCE}.image_url")


def seconds_of(body: CreateVideoRequest) -> float | None:
    if body.seconds is None:
        return None
    if isinstance(body.seconds, str):
        check_one_line(body.seconds, "seconds")
    seconds = float(body.seconds)
    if not 0 < seconds <= MAX_SECONDS:
        message = f"Invalid value for 'seconds': expected more than 0 and at most {MAX_SECONDS:g}."
        raise InvalidRequest(message, param="seconds", code="invalid_value")
    return seconds


def size_of(body: CreateVideoRequest) -> tuple[int, int] | None:
    """Width and height. Both must be even, since the colours of a video are kept for every second pixel."""
    if body.size is None:
        return None
    check_one_line(body.size, "size")
    width, height = map(int, body.size.split("x"))
    for side in (width, height):
        if not MIN_SIDE <= side <= MAX_SIDE or side % 2:
            message = f"Invalid value for 'size': each side must be an even number from {MIN_SIDE} to {MAX_SIDE}."
            raise InvalidRequest(message, param="size", code="invalid_value")
    return width, height


def to_request(body: CreateVideoRequest, image: Picture | None, facts: Facts) -> VideoRequest:
    plan(body)
    width, height = size_of(body) or (None, None)
    return VideoRequest(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt or None,
        seconds=seconds_of(body),
        frames=body.frames,
        rate=body.fps,
        width=width,
        height=height,
        steps=body.steps,
        guidance=body.guidance,
        seed=body.seed,
        image=image,
        mode=body.mode or facts.mode,
    )


def wire_name(field: str | None) -> str | None:
    """The wire's name of a field that a handler has named."""
    return None if field is None else _WIRE_NAMES.get(field, field)


def shown_seconds(seconds: float | None) -> str:
    """As the object shows them: ``4``, ``1.5``."""
    return UNKNOWN if seconds is None else f"{round(seconds, 3):g}"


def shown_size(size: tuple[int, int] | None) -> str:
    return UNKNOWN if size is None else "x".join(map(str, size))


def check_variant(variant: Variant) -> None:
    if variant == "spritesheet":
        raise UnsupportedParameter("No sprite sheets are made here; 'video' and 'thumbnail' are.", param="variant")
