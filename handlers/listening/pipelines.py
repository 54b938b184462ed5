"""Speech recognition and classification by the pipelines of transformers, step by step, so that they can be stopped.

A pipeline's three steps are public; between them stands the question whether anybody still waits for the answer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from msgspec import Struct

from handlers import types as t
from handlers.audio_families import Listener
from handlers.listening import pretrained
from handlers.listening.options import Options
from handlers.listening.recording import (
    Progress,
    RunningText,
    emit_segment,
    recording_of,
    refuse,
    refuse_silence_settings,
    waveform,
)
from handlers.loading import load_errors, options_of
from openai_compat.errors import UnsupportedParameter

CHUNK = 30.0
"""Seconds that a model is given at a time; its neighbours overlap by a sixth on either side, as the pipelines do it."""
PAUSE = 0.8
LONGEST = 6.0
"""Seconds of silence after which a segment ends, and of speech after which it ends at the next word."""
USUAL_LABELS = 5


class Config(Struct, frozen=True, kw_only=True):
    """The parameters of each of a pipeline's steps."""

    preprocess: dict[str, Any] = {}
    forward: dict[str, Any] = {}
    postprocess: dict[str, Any] = {}


class Pipeline(Listener):
    """What recognition and classification have in common."""

    task: ClassVar[str]
    auto_class: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]

    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        self._id = spec.id
        options_of(spec, Options)
        parts = {"feature_extractor": pretrained.load_part(spec, "AutoFeatureExtractor")}
        if "transcribe" in self.tasks:
            parts["tokenizer"] = pretrained.load_part(spec, "AutoTokenizer")
        model = pretrained.load(spec, self.auto_class, report)
        with load_errors(spec):
            from transformers import pipeline

            self._pipe = pipeline(self.task, model=model, device=model.device, dtype=model.dtype, **parts)
        self.audio_rate = self._pipe.feature_extractor.sampling_rate

    def check(self, request: t.Request) -> None:
        recording_of(request, tasks=self.tasks, model=self._id)

    def prepare(self, request: t.Request) -> t.AudioTaskRequest:
        return recording_of(request, tasks=self.tasks, model=self._id)

    def _parameters(self, **told: Any) -> Config:
        preprocess, forward, postprocess = self._pipe._sanitize_parameters(**told)
        return Config(preprocess=preprocess, forward=forward, postprocess=postprocess)


class Recognizer(Pipeline):
    """Speech to text in the one language that a model was made for, in overlapping chunks."""

    task = "automatic-speech-recognition"
    tasks = ("transcribe",)
    unable: ClassVar[dict[str, str]] = {
        "keywords": "This model takes no keywords.",
        "prompt": "This model takes no prompt.",
        "temperature": "This model is not sampled from.",
    }

    def check(self, request: t.Request) -> None:
        asked = recording_of(request, tasks=self.tasks, model=self._id)
        refuse(asked, self.unable)
        refuse_silence_settings(asked)

    def config(self, request: t.Request) -> Config:
        return self._parameters(chunk_length_s=CHUNK, ignore_warning=True)

    def hear(self, inputs: t.AudioTaskRequest, config: Config, ctx: t.RunContext) -> t.TranscriptResult:
        import torch

        sound, outputs, heard = waveform(inputs.audio), [], 0.0
        seconds = inputs.audio.seconds
        progress = Progress(seconds, model=self._id)
        with torch.inference_mode():
            for chunk in self._pipe.preprocess(sound, **config.preprocess):
                ctx.check()
                outputs.append(self._pipe.forward(chunk, **config.forward))
                heard += CHUNK * 2 / 3
                progress.at(heard)
        positions = sum(int(output["tokens"].shape[-1]) for output in outputs)
        found = self._pipe.postprocess(outputs, **config.postprocess)
        text, segments = RunningText(), self._segments(found, seconds)
        for segment in segments:
            emit_segment(segment, text, ctx)
        usage = t.Usage(prompt_tokens=positions, completion_tokens=len(self._pipe.tokenizer(found["text"])["input_ids"]))
        return t.TranscriptResult(
            text=text.text, language=inputs.language, duration=seconds, segments=tuple(segments), usage=usage
        )

    def _segments(self, found: dict[str, Any], seconds: float) -> list[t.Segment]:
        """One, since most such models tell no times."""
        text = str(found["text"])
        return [t.Segment(start=0.0, end=seconds, text=text)] if text.strip() else []


class Ctc(Recognizer):
    """Models that name a letter for each moment, and so know when each word was said."""

    auto_class = "AutoModelForCTC"

    def config(self, request: t.Request) -> Config:
        return self._parameters(chunk_length_s=CHUNK, return_timestamps="word")

    def _segments(self, found: dict[str, Any], seconds: float) -> list[t.Segment]:
        words = [
            t.Word(start=round(chunk["timestamp"][0], 3), end=round(chunk["timestamp"][1], 3), text=f" {chunk['text']}")
            for chunk in found["chunks"]
        ]
        return [
            t.Segment(start=group[0].start, end=group[-1].end, text="".join(word.text for word in group), words=tuple(group))
            for group in _groups(words)
        ]


class SpeechSeq2Seq(Recognizer):
    """An encoder that hears and a decoder that writes, without times."""

    auto_class = "AutoModelForSpeechSeq2Seq"

    def check(self, request: t.Request) -> None:
        super().check(request)
        if isinstance(request, t.AudioTaskRequest) and "word" in request.timestamps:
            message = f"The model '{self._id}' cannot tell the times of words."
            raise UnsupportedParameter(message, param="timestamp_granularities")


class Classifier(Pipeline):
    """Labels of a whole recording, by the names that the model's configuration has for them."""

    task = "audio-classification"
    auto_class = "AutoModelForAudioClassification"
    tasks = ("classify",)

    def config(self, request: t.Request) -> Config:
        asked = recording_of(request, tasks=self.tasks, model=self._id)
        return self._parameters(top_k=asked.top_k or USUAL_LABELS)

    def hear(self, inputs: t.AudioTaskRequest, config: Config, ctx: t.RunContext) -> t.LabelResult:
        import torch

        ctx.check()
        with torch.inference_mode():
            prepared = self._pipe.preprocess(waveform(inputs.audio), **config.preprocess)
            output = self._pipe.forward(prepared, **config.forward)
        found = self._pipe.postprocess(output, **config.postprocess)
        return t.LabelResult(labels=tuple(t.Label(label=str(one["label"]), score=float(one["score"])) for one in found))


def _groups(words: list[t.Word]) -> list[list[t.Word]]:
    """Words that were said in one go."""
    groups = [words[:1]] if words else []
    for before, word in pairwise(words):
        if word.start - before.end > PAUSE or word.end - groups[-1][0].start > LONGEST:
            groups.append([])
        groups[-1].append(word)
    return groups
