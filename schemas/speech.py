"""`/v1/audio/speech` and `/v1/audio/generations`: requests and events; the answer itself is a sound file's bytes."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from schemas.common import Mode, ModelName, Name, Seed

MAX_INPUT = 4096
MAX_SECONDS = 120.0
SoundFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
StreamFormat: TypeAlias = Literal["audio", "sse"]
Input = Annotated[str, Meta(min_length=1, max_length=MAX_INPUT)]
VoiceName = Annotated[str, Meta(min_length=1, max_length=256)]
Speed = Annotated[float, Meta(ge=0.25, le=4)]
Language = Annotated[str, Meta(min_length=1, max_length=64)]
SomeSeconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
Steps = Annotated[int, Meta(ge=1, le=500)]
Guidance = Annotated[float, Meta(ge=0, le=100)]


class VoiceReference(Struct, frozen=True, kw_only=True):
    id: VoiceName


class CreateSpeechRequest(Struct, frozen=True, kw_only=True):
    """The last group is ours, beyond OpenAI's."""

    model: ModelName
    input: Input
    voice: VoiceName | VoiceReference | None = None
    response_format: SoundFormat | None = None
    speed: Speed | None = None
    instructions: Annotated[str, Meta(max_length=MAX_INPUT)] | None = None
    stream_format: StreamFormat | None = None

    language: Language | None = None
    seed: Seed | None = None
    mode: Mode | None = None


class CreateSoundRequest(Struct, frozen=True, kw_only=True):
    """Music or sound by its description; an endpoint of ours."""

    model: ModelName
    prompt: Input
    seconds: SomeSeconds | None = None
    negative_prompt: Annotated[str, Meta(max_length=MAX_INPUT)] | None = None
    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    response_format: SoundFormat | None = None
    stream_format: StreamFormat | None = None
    user: Name | None = None
    mode: Mode | None = None


class SpeechUsage(Struct, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class SpeechAudioDelta(Struct, frozen=True, kw_only=True):
    """The next bytes of the file, as base64."""

    audio: str
    type: Literal["speech.audio.delta"] = "speech.audio.delta"


class SpeechAudioDone(Struct, frozen=True, kw_only=True):
    usage: SpeechUsage
    type: Literal["speech.audio.done"] = "speech.audio.done"


class SpeechEvent(Struct, frozen=True, kw_only=True):
    """What an event of a stream holds: ``audio`` in all but the last, which has ``usage``."""

    type: Literal["speech.audio.delta", "speech.audio.done"]
    audio: str | None = field(default=None)
    usage: SpeechUsage | None = field(default=None)
