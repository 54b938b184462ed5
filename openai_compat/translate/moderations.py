"""`/v1/moderations`: wire ⇄ domain."""

from __future__ import annotations

from msgspec import convert

from handlers.types import CATEGORIES, ClassifyRequest, ClassifyResult, Verb, Verdict
from openai_compat.errors import InvalidRequest, UnsupportedCapability
from openai_compat.translate.common import Facts, Meta
from schemas.moderations import (
    AppliedInputTypes,
    Categories,
    CategoryScores,
    InputPart,
    Moderation,
    ModerationRequest,
    ModerationResult,
)

ID_PREFIX = "modr"
MAX_CHARACTERS = 4_000_000


def plan(body: ModerationRequest) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    _texts(body)
    return "classify_text"


def to_request(body: ModerationRequest, facts: Facts) -> ClassifyRequest:
    """Raises what ``plan`` raises."""
    return ClassifyRequest(texts=_texts(body), mode=body.mode or facts.mode)


def _texts(body: ModerationRequest) -> tuple[str, ...]:
    texts = (body.input,) if isinstance(body.input, str) else _listed(body.input)
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise InvalidRequest(f"The inputs are longer than {MAX_CHARACTERS} characters together.", param="input")
    return texts


def _listed(items: list[str | InputPart]) -> tuple[str, ...]:
    """Each text is an input of its own; parts are one input together."""
    if not items:
        raise InvalidRequest("'input' must not be an empty list.", param="input")
    parts = [_part(item, f"input[{i}]") for i, item in enumerate(items) if isinstance(item, InputPart)]
    if not parts:
        return tuple(item for item in items if isinstance(item, str))
    if len(parts) < len(items):
        raise InvalidRequest("'input' is either a list of texts or a list of parts.", param="input")
    return ("\n".join(parts),)


def _part(part: InputPart, param: str) -> str:
    if part.type == "image_url":
        raise UnsupportedCapability("Pictures cannot be moderated by this server's models; send texts.", param=param)
    if part.text is None:
        raise InvalidRequest(
            "A part of the type 'text' needs 'text'.", param=f"{param}.text", code="missing_required_parameter"
        )
    return part.text


def to_response(result: ClassifyResult, meta: Meta) -> Moderation:
    return Moderation(id=meta.id, model=meta.model, results=[*map(_result, result.verdicts)])


def _result(verdict: Verdict) -> ModerationResult:
    return ModerationResult(
        flagged=bool(verdict.flagged),
        categories=convert({category: category in verdict.flagged for category in CATEGORIES}, Categories),
        category_scores=convert(verdict.scores, CategoryScores),
        category_applied_input_types=convert({category: ["text"] for category in verdict.scores}, AppliedInputTypes),
        labels=verdict.labels,
    )
