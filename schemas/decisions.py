"""`/v1/decisions`: request and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schemas.common import Anything, Label, ModelName, Name
from schemas.messages import Url
from schemas.responses import MAX_ITEMS

MAX_QUESTIONS = 400
MAX_OPTIONS = 255
Words = Annotated[str, Meta(max_length=65_536)]
Described = Annotated[str, Meta(max_length=4096)]
Input = str | Annotated[list[Any], Meta(min_length=1, max_length=MAX_ITEMS)]


class TextPart(Struct, frozen=True, kw_only=True, tag="input_text"):
    text: Words


class ImagePart(Struct, frozen=True, kw_only=True, tag="input_image"):
    image_url: Url
    detail: Literal["low", "high", "auto", "original"] | None = None


class JsonPart(Struct, frozen=True, kw_only=True, tag="input_json"):
    data: Anything | Annotated[list[Anything], Meta(max_length=10_000)]


Instructions = Words | Annotated[list[TextPart | ImagePart | JsonPart], Meta(min_length=1, max_length=64)]


class Predicate(Struct, frozen=True, kw_only=True, tag="predicate"):
    """How likely is it that a statement is true?"""

    instructions: Instructions
    name: Name | None = None


class ChoiceOption(Struct, frozen=True, kw_only=True):
    """A text and a boolean of the same letters are two values."""

    value: Described | bool
    description: Described | None = None


class ChoiceQuestion(Struct, frozen=True, kw_only=True, tag="choice"):
    instructions: Instructions
    choices: Annotated[list[ChoiceOption], Meta(min_length=2, max_length=MAX_OPTIONS)]
    name: Name | None = None


class Level(Struct, frozen=True, kw_only=True):
    label: Described
    description: Described | None = None


class ScoreQuestion(Struct, frozen=True, kw_only=True, tag="score"):
    """``levels`` are in their order; the first one has the value 0."""

    instructions: Instructions
    levels: Annotated[list[Level], Meta(min_length=2, max_length=MAX_OPTIONS)]
    name: Name | None = None


Question = Predicate | ChoiceQuestion | ScoreQuestion


class CreateDecisionRequest(Struct, frozen=True, kw_only=True):
    """``input`` is a text, or items as `/v1/responses` has them."""

    model: ModelName
    input: Input
    questions: Annotated[list[Question], Meta(min_length=1, max_length=MAX_QUESTIONS)]
    prompt_cache_key: Label | None = None
    prompt_cache_options: Anything | None = None
    safety_identifier: Label | None = None


# ---------------------------------------------------------------- answer


class PredicateAnswer(Struct, frozen=True, kw_only=True, tag="predicate"):
    name: str | None
    probability: float


class ChoiceProbability(Struct, frozen=True, kw_only=True):
    value: str | bool
    probability: float


class ChoiceAnswer(Struct, frozen=True, kw_only=True, tag="choice"):
    """``confidence`` is the probability of ``choice``."""

    name: str | None
    choice: str | bool
    confidence: float
    probabilities: list[ChoiceProbability]


class LevelProbability(Struct, frozen=True, kw_only=True):
    value: int
    label: str
    probability: float


class ScoreAnswer(Struct, frozen=True, kw_only=True, tag="score"):
    """``score`` is the mean of the levels' values, ``confidence`` the probability of the likeliest."""

    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class RefusalAnswer(Struct, frozen=True, kw_only=True, tag="refusal"):
    name: str | None


Answer = PredicateAnswer | ChoiceAnswer | ScoreAnswer | RefusalAnswer


class DecisionInputDetails(Struct, frozen=True, kw_only=True):
    cached_tokens: int
    cache_write_tokens: int = 0


class DecisionOutputDetails(Struct, frozen=True, kw_only=True):
    reasoning_tokens: int


class DecisionUsage(Struct, frozen=True, kw_only=True):
    input_tokens: int
    input_tokens_details: DecisionInputDetails
    output_tokens: int
    output_tokens_details: DecisionOutputDetails
    total_tokens: int


class Decision(Struct, frozen=True, kw_only=True):
    """``answers`` are in the order of the questions."""

    model: str
    answers: list[Answer]
    usage: DecisionUsage
