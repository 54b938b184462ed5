"""`/v1/audio/transcriptions`, `/translations` and `/classifications`: requests, answers and events.

The requests are the fields of a form, whose file is beside them; in a JSON body ``input_audio`` takes the file's place.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import Mode, ModelName, Name, Share
from schemas.messages import InputAudio, Url

TextFormat: TypeAlias = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity: TypeAlias = Literal["word", "segment"]
LanguageName = Annotated[str, Meta(max_length=64)]
Keyword = Annotated[str, Meta(min_length=1, max_length=128)]
PromptText = Annotated[str, Meta(max_length=16_384)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Warmth = Annotated[float, Meta(ge=0, le=1)]


class ServerVad(Struct, frozen=True, kw_only=True):
    type: Literal["server_vad"]
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Milliseconds | None = None
    threshold: Share | None = None


class TranslationRequest(Struct, frozen=True, kw_only=True):
    """The last group is ours, beyond OpenAI's. ``language`` is the one that is spoken."""

    model: ModelName
    prompt: PromptText | None = None
    response_format: TextFormat | None = None
    temperature: Warmth | None = None

    input_audio: InputAudio | None = None
    language: LanguageName | None = None
    stream: bool | None = None
    mode: Mode | None = None


class TranscriptionRequest(Struct, frozen=True, kw_only=True):
    """The last group is ours, beyond OpenAI's."""

    model: ModelName
    language: LanguageName | None = None
    languages: Annotated[list[LanguageName], Meta(max_length=32)] | None = None
    prompt: PromptText | None = None
    keywords: Annotated[list[Keyword], Meta(max_length=128)] | None = None
    response_format: TextFormat | Literal["diarized_json"] | None = None
    timestamp_granularities: Annotated[list[Granularity], Meta(max_length=8)] | None = None
    temperature: Warmth | None = None
    stream: bool | None = None
    include: Annotated[list[Name], Meta(max_length=8)] | None = None
    chunking_strategy: Literal["auto"] | ServerVad | None = None
    known_speaker_names: Annotated[list[Name], Meta(max_length=8)] | None = None
    known_speaker_references: Annotated[list[Url], Meta(max_length=8)] | None = None

    input_audio: InputAudio | None = None
    mode: Mode | None = None


class ClassificationRequest(Struct, frozen=True, kw_only=True):
    """An endpoint of ours: what is in a recording."""

    model: ModelName
    top_k: Annotated[int, Meta(ge=1, le=1000)] | None = None
    input_audio: InputAudio | None = None
    mode: Mode | None = None


class JsonTranslationRequest(TranslationRequest, frozen=True, kw_only=True):
    input_audio: InputAudio


class JsonTranscriptionRequest(TranscriptionRequest, frozen=True, kw_only=True):
    input_audio: InputAudio


class JsonClassificationRequest(ClassificationRequest, frozen=True, kw_only=True):
    input_audio: InputAudio


# ---------------------------------------------------------------- answers


class DurationUsage(Struct, frozen=True, kw_only=True):
    """Seconds of the recording."""

    seconds: float
    type: Literal["duration"] = "duration"


class InputTokenDetails(Struct, frozen=True, kw_only=True):
    audio_tokens: int
    text_tokens: int = 0


class TokenUsage(Struct, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_token_details: InputTokenDetails
    type: Literal["tokens"] = "tokens"


class Transcription(Struct, frozen=True, kw_only=True):
    text: str
    usage: DurationUsage


class TranscriptionWord(Struct, frozen=True, kw_only=True):
    word: str
    start: float
    end: float


class TranscriptionSegment(Struct, frozen=True, kw_only=True):
    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseTranscription(Struct, frozen=True, kw_only=True):
    """``segments`` and ``words`` are there where they were asked for; ``language`` is a name such as ``english``."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: list[TranscriptionSegment] | UnsetType = UNSET
    words: list[TranscriptionWord] | UnsetType = UNSET
    usage: DurationUsage


class TranscriptDelta(Struct, frozen=True, kw_only=True):
    delta: str
    type: Literal["transcript.text.delta"] = "transcript.text.delta"


class TranscriptSegment(Struct, frozen=True, kw_only=True):
    """A finished stretch, sent where segments were asked for. Speakers are not told apart: ``speaker`` is empty."""

    id: str
    start: float
    end: float
    text: str
    speaker: str = ""
    type: Literal["transcript.text.segment"] = "transcript.text.segment"


class TranscriptDone(Struct, frozen=True, kw_only=True):
    """The whole text; the rest of a verbose answer where that was asked for."""

    text: str
    usage: TokenUsage
    language: str | UnsetType = UNSET
    duration: float | UnsetType = UNSET
    words: list[TranscriptionWord] | UnsetType = UNSET
    type: Literal["transcript.text.done"] = "transcript.text.done"


class TranscriptEvent(Struct, frozen=True, kw_only=True):
    """What an event of a stream holds, by its ``type``."""

    type: Literal["transcript.text.delta", "transcript.text.segment", "transcript.text.done"]
    delta: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    start: float | UnsetType = UNSET
    end: float | UnsetType = UNSET
    text: str | UnsetType = UNSET
    usage: TokenUsage | UnsetType = UNSET


class SoundLabel(Struct, frozen=True, kw_only=True):
    label: str
    score: float


class Classification(Struct, frozen=True, kw_only=True):
    """Likeliest first."""

    model: str
    data: list[SoundLabel]
    usage: DurationUsage
    object: Literal["list"] = "list"
