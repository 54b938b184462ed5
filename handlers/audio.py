"""Audio models: they hear, speak, or make sound; one backend of ``handlers.audio_families`` a checkpoint does the work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from handlers import types as t
from handlers.analyze import missing_files
from handlers.audio_families import Backend, Family, Listener, Speaker, family_of
from handlers.base import BaseHandler
from openai_compat.errors import ModelUnavailable


class AudioHandler(BaseHandler):
    """Every audio family; which verbs a checkpoint has is in the table of families."""

    modes = {"auto": t.Mode(description="Does what the model is made for.")}  # noqa: RUF012 -- declared by the base
    _backend: Any

    # ------------------------------------------------------------ facts

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        """A family that is known by its files alone gives the architecture its name."""
        found, family = super().analyze(spec), family_of(spec.path)
        return replace(found, architecture=family.name) if family and family.layout else found

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        family = family_of(spec.path)
        return family.dependencies if family else ()

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        family = family_of(spec.path)
        return frozenset(family.verbs) if family else frozenset()

    @classmethod
    def validate_model_files(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        """Models that name no architecture have files of their own family, and not those of a transformer."""
        family = family_of(spec.path)
        general = () if family and family.layout else missing_files(spec, words=family is None or family.words)
        lacking = (name for name in (family.needs if family else ()) if not any(Path(spec.path).glob(name)))
        return (*general, *(f"{name}: is missing" for name in lacking))

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        family = _known(self.spec)
        self._verbs = family.verbs
        self._backend = _class_of(family)(self.spec, report)
        self.audio_rate = getattr(self._backend, "audio_rate", self.audio_rate)

    def validate_inputs(self, request: t.Request) -> None:
        super().validate_inputs(request)
        self._backend.check(request)

    def prepare_inputs(self, request: t.Request) -> Any:
        return self._backend.prepare(request)

    def get_generation_config(self, request: t.Request) -> Any:
        return self._backend.config(request)

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        return self._backend.finish(raw, request)

    # ------------------------------------------------------------ verbs

    def process_audio(self, request: t.AudioTaskRequest, ctx: t.RunContext) -> t.TranscriptResult | t.LabelResult:
        listener: Listener = self._backend_for("process_audio")
        inputs = self.prepare_inputs(request)
        config = self.get_generation_config(request)
        ctx.check()
        raw = listener.hear(inputs, config, self._finishing(ctx, request))
        heard: t.TranscriptResult | t.LabelResult = self.postprocess_outputs(raw, request)
        return heard

    def generate_audio(self, request: t.SpeechRequest, ctx: t.RunContext) -> t.SoundResult:
        speaker: Speaker = self._backend_for("generate_audio")
        inputs = self.prepare_inputs(request)
        config = self.get_generation_config(request)
        ctx.check()
        raw = speaker.speak(inputs, config, self._finishing(ctx, request))
        spoken: t.SoundResult = self.postprocess_outputs(raw, request)
        return spoken

    def _backend_for(self, verb: t.Verb) -> Any:
        if verb not in self._verbs:
            raise self._unsupported(verb)
        return self._backend

    def _finishing(self, ctx: t.RunContext, request: t.Request) -> t.RunContext:
        return _Finishing(ctx, partial(self.postprocess_outputs, request=request))


class _Finishing:
    """Postprocesses what a backend emits."""

    def __init__(self, ctx: t.RunContext, finish: Callable[[Any], Any]) -> None:
        self._finish = finish
        self._ctx = ctx

    def emit(self, delta: Any) -> None:
        self._ctx.emit(self._finish(delta))

    def check(self) -> None:
        self._ctx.check()

    def spend(self, usage: t.Usage) -> None:
        self._ctx.spend(usage)


def _known(spec: t.ModelSpec) -> Family:
    family = family_of(spec.path)
    if family is None:
        raise ModelUnavailable(f"The files of '{spec.id}' are of no audio model that is known.")
    return family


def _class_of(family: Family) -> Callable[[t.ModelSpec, t.LoadReport], Backend]:
    module, _, name = family.backend.partition(":")
    found: Callable[[t.ModelSpec, t.LoadReport], Backend] = getattr(import_module(module), name)
    return found
