"""`/v1/audio/speech` and `/v1/audio/generations`: wire ⇄ domain."""

from __future__ import annotations

import base64

import msgspec

from handlers.types import SoundResult, SpeechRequest, Verb
from openai_compat.errors import InvalidRequest
from openai_compat.translate.common import Facts
from schemas.speech import (
    CreateSoundRequest,
    CreateSpeechRequest,
    SoundFormat,
    SpeechAudioDelta,
    SpeechAudioDone,
    SpeechUsage,
    VoiceReference,
)

DEFAULT_FORMAT: SoundFormat = "mp3"
MEDIA_TYPES: dict[SoundFormat, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_encode = msgspec.json.Encoder().encode


def plan_speech(body: CreateSpeechRequest) -> Verb:
    """Raises ``InvalidRequest`` for a text that nobody can speak."""
    _require(body.input, "input")
    return "generate_audio"


def plan_sound(body: CreateSoundRequest) -> Verb:
    """Raises ``InvalidRequest`` for a prompt that says nothing."""
    _require(body.prompt, "prompt")
    return "generate_audio"


def to_speech(body: CreateSpeechRequest, facts: Facts) -> SpeechRequest:
    plan_speech(body)
    return SpeechRequest(
        text=body.input,
        voice=body.voice.id if isinstance(body.voice, VoiceReference) else body.voice,
        speed=1.0 if body.speed is None else body.speed,
        language=body.language,
        instructions=body.instructions or None,
        seed=body.seed,
        mode=body.mode or facts.mode,
        stream=True,
    )


def to_sound(body: CreateSoundRequest, facts: Facts) -> SpeechRequest:
    plan_sound(body)
    return SpeechRequest(
        text=body.prompt,
        task="sound",
        seconds=body.seconds,
        negative_prompt=body.negative_prompt or None,
        seed=body.seed,
        steps=body.steps,
        guidance=body.guidance,
        mode=body.mode or facts.mode,
        stream=True,
    )


def format_of(body: CreateSpeechRequest | CreateSoundRequest) -> SoundFormat:
    return body.response_format or DEFAULT_FORMAT


def delta_event(data: bytes) -> bytes:
    return b"data: " + _encode(SpeechAudioDelta(audio=base64.b64encode(data).decode())) + b"\n\n"


def done_event(result: SoundResult) -> bytes:
    """The last event; its tokens are those that the model read and made, where it works in tokens."""
    read, made = result.usage.prompt_tokens, result.usage.completion_tokens
    usage = SpeechUsage(input_tokens=read, output_tokens=made, total_tokens=read + made)
    return b"data: " + _encode(SpeechAudioDone(usage=usage)) + b"\n\n"


def _require(text: str, param: str) -> None:
    if not text.strip():
        raise InvalidRequest(f"'{param}' must hold some text.", param=param)
