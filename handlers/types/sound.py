"""Speech, sound and recordings."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from handlers.types.facts import Usage


class Sound(Struct, frozen=True, kw_only=True):
    """Decoded sound: 16 bit little-endian integers, ``channels`` interleaved, ``rate`` samples a second of each."""

    pcm: bytes
    rate: int
    channels: int = 1

    @property
    def seconds(self) -> float:
        return len(self.pcm) / (2 * self.rate * self.channels)


class SpeechRequest(Struct, frozen=True, kw_only=True):
    """A text to speak, or a description of music or sound to make.

    ``voice``, ``speed``, ``language`` and ``instructions`` go with ``speak``; ``seconds`` (the length wanted),
    ``negative_prompt``, ``steps`` and ``guidance`` with ``sound``.
    """

    text: str
    task: Literal["speak", "sound"] = "speak"
    voice: str | None = None
    speed: float = 1.0
    language: str | None = None
    instructions: str | None = None
    seconds: float | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    mode: str | None = None
    stream: bool = False


class VoiceActivity(Struct, frozen=True, kw_only=True):
    """Leave out what is no speech before it is recognised. ``threshold``: a probability; the rest are milliseconds."""

    threshold: float | None = None
    silence_ms: int | None = None
    padding_ms: int | None = None


class AudioTaskRequest(Struct, frozen=True, kw_only=True):
    """A recording, decoded to one channel at the handler's ``audio_rate``, and what to do with it.

    ``language`` is the one that is spoken, ``languages`` are those that may be; codes as the model knows them. ``keywords`` are
    words to expect. ``top_k`` goes with ``classify``.
    """

    audio: Sound
    task: Literal["transcribe", "translate", "classify"]
    language: str | None = None
    languages: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    prompt: str | None = None
    temperature: float | None = None
    timestamps: tuple[Literal["segment", "word"], ...] = ()
    voice_activity: VoiceActivity | None = None
    top_k: int | None = None
    mode: str | None = None
    stream: bool = False


class SoundDelta(Struct, frozen=True, kw_only=True):
    """The next piece of a sound; all pieces of one answer have the same rate and channels."""

    sound: Sound


class Word(Struct, frozen=True, kw_only=True):
    """A recognised word with the white space before it; times in seconds."""

    start: float
    end: float
    text: str


class Segment(Struct, frozen=True, kw_only=True):
    """A stretch of recognised speech; times in seconds.

    ``seek`` is the hundredth of a second at which its window begins; ``tokens`` are the model's, time marks included. The
    numbers that Whisper judges itself by are 0 where a model has none.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    tokens: tuple[int, ...] = ()
    seek: int = 0
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0


class SegmentDelta(Struct, frozen=True, kw_only=True):
    """A stretch of speech whose text was emitted before."""

    segment: Segment


class SoundResult(Struct, frozen=True, kw_only=True):
    """The end of a sound, all of which was emitted before; ``seconds`` is its length."""

    seconds: float
    usage: Usage = Usage()


class TranscriptResult(Struct, frozen=True, kw_only=True):
    """``prompt_tokens`` of the usage are the positions that the recording takes in the model."""

    text: str
    language: str | None = None
    duration: float = 0.0
    segments: tuple[Segment, ...] = ()
    usage: Usage = Usage()
