"""Whisper in CTranslate2's format, by faster-whisper; no torch is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t
from handlers.audio_families import Listener
from handlers.listening.options import FasterWhisperOptions
from handlers.listening.recording import Progress, RunningText, emit_segment, recording_of, temperatures, waveform
from handlers.loading import load_errors, options_of
from openai_compat.errors import InvalidRequest, ModelUnavailable, UnsupportedCapability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_THREADS = 4
"""More do not make Whisper's small matrices faster; CTranslate2's own rule."""
BEAMS = 5
POSITIONS = 50
"""Positions that the encoder makes of a second."""


class Config(Struct, frozen=True, kw_only=True):
    """How one recording is heard: arguments of ``WhisperModel.transcribe``, and the languages that it may be in."""

    arguments: dict[str, Any]
    languages: tuple[str, ...] = ()


class FasterWhisper(Listener):
    """Transcribes, and translates to English where the checkpoint knows other languages."""

    audio_rate = 16_000

    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        self._id = spec.id
        self._options = options_of(spec, FasterWhisperOptions)
        device, index = _device_of(spec)
        size = Path(spec.path, "model.bin").stat().st_size
        report("placing the weights", 0, size)
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # a line a request is the server's own
        with load_errors(spec):
            from faster_whisper import WhisperModel

            self._model = WhisperModel(
                spec.path,
                device=device,
                device_index=index,
                compute_type=_compute_type(spec, self._options.compute_type, device),
                cpu_threads=spec.threads or min(MOST_THREADS, os.cpu_count() or 1),
                local_files_only=True,
            )
        report("placing the weights", size, size)
        self._model.get_prompt = partial(_fitting_prompt, self._model.get_prompt, self._model.max_length // 2 - 1)
        self._tasks = ("transcribe", "translate") if self._model.model.is_multilingual else ("transcribe",)

    def check(self, request: t.Request) -> None:
        asked = recording_of(request, tasks=("transcribe", "translate"), model=self._id)
        if asked.task not in self._tasks:
            raise UnsupportedCapability(f"The model '{self._id}' knows English only, and cannot translate.", param="model")
        for code in (asked.language, *asked.languages):
            if code is not None and code not in self._model.supported_languages:
                param = "language" if code == asked.language else "languages"
                raise InvalidRequest(f"The model '{self._id}' does not know the language '{code}'.", param=param)

    def prepare(self, request: t.Request) -> NDArray[np.float32]:
        return waveform(recording_of(request, tasks=self._tasks, model=self._id).audio)

    def config(self, request: t.Request) -> Config:
        asked = recording_of(request, tasks=self._tasks, model=self._id)
        arguments = {
            "task": asked.task,
            "language": asked.language,
            "initial_prompt": asked.prompt or None,
            "hotwords": " ".join(asked.keywords) or None,
            "temperature": temperatures(asked.temperature),
            "word_timestamps": "word" in asked.timestamps,
            "beam_size": self._options.beam_size or BEAMS,
            "condition_on_previous_text": self._options.condition_on_previous_text,
            **_voice_activity(asked.voice_activity, always=self._options.voice_activity),
        }
        return Config(arguments=arguments, languages=() if asked.language else tuple(dict.fromkeys(asked.languages)))

    def hear(self, inputs: NDArray[np.float32], config: Config, ctx: t.RunContext) -> t.TranscriptResult:
        seconds = len(inputs) / self.audio_rate
        progress = Progress(seconds, model=self._id)
        with self._watched(ctx):
            arguments = {**config.arguments, "language": config.arguments["language"] or self._likeliest(inputs, config)}
            found, info = self._model.transcribe(inputs, **arguments)
            text, segments = RunningText(), []
            for raw in found:
                segments.append(_segment(raw))
                emit_segment(segments[-1], text, ctx)
                progress.at(segments[-1].end)
        return t.TranscriptResult(
            text=text.text,
            language=info.language,
            duration=seconds,
            segments=tuple(segments),
            usage=t.Usage(
                prompt_tokens=round(seconds * POSITIONS),
                completion_tokens=sum(len(segment.tokens) for segment in segments),
            ),
        )

    def _likeliest(self, inputs: NDArray[np.float32], config: Config) -> str | None:
        """The likeliest of the languages that it may be in; None where any will do."""
        if len(config.languages) < 2:
            return config.languages[0] if config.languages else None
        _, _, found = self._model.detect_language(inputs)
        return max(config.languages, key=dict(found).__getitem__)

    @contextmanager
    def _watched(self, ctx: t.RunContext) -> Iterator[None]:
        """Ask before each window, and before each try at its words, whether the answer is still wanted: a silent recording
        has no segments to ask at, and noise has six tries."""
        network = self._model.model
        self._model.model = _Watched(network, ctx)
        try:
            yield
        finally:
            self._model.model = network


class _Watched:
    """CTranslate2's model, whose long calls are asked for first."""

    def __init__(self, network: Any, ctx: t.RunContext) -> None:
        self._network = network
        self._ctx = ctx

    def encode(self, *given: Any, **named: Any) -> Any:
        self._ctx.check()
        return self._network.encode(*given, **named)

    def generate(self, *given: Any, **named: Any) -> Any:
        self._ctx.check()
        return self._network.generate(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def _fitting_prompt(
    make: Callable[..., list[int]], most: int, tokenizer: Any, before: list[int], *, hotwords: str | None = None, **named: Any
) -> list[int]:
    """Keywords and what was heard before share the room of either: together they would leave the answer none."""
    room = most - (len(tokenizer.encode(" " + hotwords.strip())) if hotwords else 0)
    return make(tokenizer, before[-room:] if room > 0 else [], hotwords=hotwords, **named)


def _segment(raw: Any) -> t.Segment:
    return t.Segment(
        start=float(raw.start),
        end=float(raw.end),
        text=raw.text,
        words=tuple(t.Word(start=float(word.start), end=float(word.end), text=word.word) for word in raw.words or ()),
        tokens=tuple(raw.tokens),
        seek=raw.seek,
        temperature=raw.temperature,
        avg_logprob=float(raw.avg_logprob),
        compression_ratio=float(raw.compression_ratio),
        no_speech_prob=float(raw.no_speech_prob),
    )


def _voice_activity(asked: t.VoiceActivity | None, *, always: bool) -> dict[str, Any]:
    if asked is None:
        return {"vad_filter": always}
    told = {
        "threshold": asked.threshold,
        "min_silence_duration_ms": asked.silence_ms,
        "speech_pad_ms": asked.padding_ms,
    }
    return {"vad_filter": True, "vad_parameters": {name: value for name, value in told.items() if value is not None}}


def _device_of(spec: t.ModelSpec) -> tuple[str, int]:
    """Raises ``ModelUnavailable`` for a device that is not there."""
    import ctranslate2

    name, _, index = spec.device.partition(":")
    gpus = ctranslate2.get_cuda_device_count()
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    number = int(index) if index.isdecimal() else 0
    if name not in ("cpu", "cuda") or (name == "cuda" and number >= gpus):
        raise ModelUnavailable(f"The device '{spec.device}' is not there, or not one that CTranslate2 runs on.")
    return name, number


def _compute_type(spec: t.ModelSpec, told: str | None, device: str) -> str:
    """``options.compute_type``, else the model's dtype. Raises ``ModelUnavailable`` for one that the device lacks."""
    import ctranslate2

    wanted = told or (None if spec.dtype == "auto" else spec.dtype)
    if wanted is None:
        return "float16" if device == "cuda" else "int8"
    known = ctranslate2.get_supported_compute_types(device)
    if wanted not in known:
        raise ModelUnavailable(f"'{spec.id}' cannot compute in {wanted} here; known: {', '.join(sorted(known))}.")
    return wanted
