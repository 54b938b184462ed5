"""What travels between the wire and a handler: frozen requests, deltas and results, one family a verb.

Nothing here knows HTTP. ``None`` in a request means "the client did not say", so that a mode or the model's own defaults may
fill it. Times are seconds, sizes bytes or pixels, token counts whole tokens.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from handlers.types.classes import CATEGORIES, Category, ClassifyRequest, ClassifyResult, Verdict
from handlers.types.facts import VERBS, Analysis, Mode, ModelSpec, Usage, Verb
from handlers.types.pictures import (
    Box,
    DepthResult,
    FrameDelta,
    ImageRequest,
    ImageTaskRequest,
    Label,
    LabelResult,
    Picture,
    PictureDelta,
    PictureResult,
    ProgressDelta,
    Sighting,
    SightResult,
    VideoRequest,
    VideoResult,
    VisionTask,
)
from handlers.types.sound import (
    AudioTaskRequest,
    Segment,
    SegmentDelta,
    Sound,
    SoundDelta,
    SoundResult,
    SpeechRequest,
    TranscriptResult,
    VoiceActivity,
    Word,
)
from handlers.types.text import (
    AudioPart,
    FinishReason,
    GrammarSpec,
    ImagePart,
    Message,
    Part,
    Prompt,
    Role,
    Sampling,
    TextChoice,
    TextDelta,
    TextPart,
    TextRequest,
    TextResult,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    TopLogprob,
)
from handlers.types.tokens import TokenRequest, TokenResult
from handlers.types.vectors import EmbedRequest, EmbedResult, RankRequest, RankResult

__all__ = [
    "Analysis",
    "AudioPart",
    "AudioTaskRequest",
    "Box",
    "CATEGORIES",
    "Category",
    "ClassifyRequest",
    "ClassifyResult",
    "Delta",
    "DepthResult",
    "EmbedRequest",
    "EmbedResult",
    "FinishReason",
    "FrameDelta",
    "GrammarSpec",
    "ImagePart",
    "ImageRequest",
    "ImageTaskRequest",
    "Label",
    "LabelResult",
    "LoadReport",
    "Message",
    "Mode",
    "ModelSpec",
    "Part",
    "Picture",
    "PictureDelta",
    "PictureResult",
    "ProgressDelta",
    "Prompt",
    "RankRequest",
    "RankResult",
    "Request",
    "Result",
    "Role",
    "RunContext",
    "Sampling",
    "Segment",
    "SegmentDelta",
    "SightResult",
    "Sighting",
    "Sound",
    "SoundDelta",
    "SoundResult",
    "SpeechRequest",
    "TextChoice",
    "TextDelta",
    "TextPart",
    "TextRequest",
    "TextResult",
    "TokenLogprob",
    "TokenRequest",
    "TokenResult",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "TopLogprob",
    "TranscriptResult",
    "Usage",
    "VERBS",
    "Verb",
    "Verdict",
    "VideoRequest",
    "VideoResult",
    "VisionTask",
    "VoiceActivity",
    "Word",
]

Request: TypeAlias = (
    TextRequest
    | ImageRequest
    | SpeechRequest
    | VideoRequest
    | ImageTaskRequest
    | AudioTaskRequest
    | EmbedRequest
    | RankRequest
    | ClassifyRequest
    | TokenRequest
)
Delta: TypeAlias = TextDelta | SegmentDelta | SoundDelta | PictureDelta | FrameDelta | ProgressDelta
Result: TypeAlias = (
    TextResult
    | PictureResult
    | VideoResult
    | SoundResult
    | LabelResult
    | DepthResult
    | SightResult
    | TranscriptResult
    | EmbedResult
    | RankResult
    | ClassifyResult
    | TokenResult
)


class RunContext(Protocol):
    """What a verb may say to the outside while it runs on the model's thread."""

    def emit(self, delta: Delta) -> None:
        """Send a piece of the answer. Raises ``Cancelled`` or ``DeadlineExceeded`` once nobody wants it any more."""

    def check(self) -> None:
        """Raise ``Cancelled`` or ``DeadlineExceeded`` once nobody wants the answer; call it at least once a step."""

    def spend(self, usage: Usage) -> None:
        """Say what was computed, where that ends without a result; what was said last counts."""


class LoadReport(Protocol):
    """Where ``load_model`` tells how far it is."""

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """``stage`` in words, ``done`` and ``total`` in bytes (0: not known)."""
