"""`/v1/moderations`: request and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import Mode, ModelName
from schemas.messages import ImageUrl, Url

MAX_INPUTS = 2048
Text = Annotated[str, Meta(max_length=1_000_000)]
InputType = Literal["text", "image"]
_SPELLED = {
    "harassment_threatening": "harassment/threatening",
    "hate_threatening": "hate/threatening",
    "illicit_violent": "illicit/violent",
    "self_harm": "self-harm",
    "self_harm_instructions": "self-harm/instructions",
    "self_harm_intent": "self-harm/intent",
    "sexual_minors": "sexual/minors",
    "violence_graphic": "violence/graphic",
}


class InputPart(Struct, frozen=True, kw_only=True):
    """A text or a picture; all parts of a list are one input."""

    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: ImageUrl | Url | None = None


class ModerationRequest(Struct, frozen=True, kw_only=True):
    """``input`` is a text, texts, or the parts of one input."""

    model: ModelName | None = None
    input: Text | Annotated[list[Text | InputPart], Meta(max_length=MAX_INPUTS)]
    mode: Mode | None = None


class Categories(Struct, frozen=True, kw_only=True, rename=_SPELLED):
    harassment: bool = False
    harassment_threatening: bool = False
    hate: bool = False
    hate_threatening: bool = False
    illicit: bool = False
    illicit_violent: bool = False
    self_harm: bool = False
    self_harm_instructions: bool = False
    self_harm_intent: bool = False
    sexual: bool = False
    sexual_minors: bool = False
    violence: bool = False
    violence_graphic: bool = False


class CategoryScores(Struct, frozen=True, kw_only=True, rename=_SPELLED):
    harassment: float = 0.0
    harassment_threatening: float = 0.0
    hate: float = 0.0
    hate_threatening: float = 0.0
    illicit: float = 0.0
    illicit_violent: float = 0.0
    self_harm: float = 0.0
    self_harm_instructions: float = 0.0
    self_harm_intent: float = 0.0
    sexual: float = 0.0
    sexual_minors: float = 0.0
    violence: float = 0.0
    violence_graphic: float = 0.0


class AppliedInputTypes(Struct, frozen=True, kw_only=True, rename=_SPELLED):
    harassment: list[InputType] = []
    harassment_threatening: list[InputType] = []
    hate: list[InputType] = []
    hate_threatening: list[InputType] = []
    illicit: list[InputType] = []
    illicit_violent: list[InputType] = []
    self_harm: list[InputType] = []
    self_harm_instructions: list[InputType] = []
    self_harm_intent: list[InputType] = []
    sexual: list[InputType] = []
    sexual_minors: list[InputType] = []
    violence: list[InputType] = []
    violence_graphic: list[InputType] = []


class ModerationResult(Struct, frozen=True, kw_only=True):
    """A category that the model cannot tell is false, its score 0, and it applies to no type of input.

    ``labels``, beyond OpenAI's, are the model's own with their scores.
    """

    flagged: bool
    categories: Categories
    category_scores: CategoryScores
    category_applied_input_types: AppliedInputTypes
    labels: dict[str, float]


class Moderation(Struct, frozen=True, kw_only=True):
    """``results`` are in the order of the inputs."""

    id: str
    model: str
    results: list[ModerationResult]
