"""Diffusion: pictures and videos from text or pictures, by any pipeline of diffusers that ``handlers.painting`` lists."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from handlers import types as t
from handlers.base import BaseHandler
from handlers.painting import facts, pictures, video
from handlers.painting.families import pipeline_class, verbs_of
from handlers.painting.layout import missing
from openai_compat.errors import UnsupportedMode

_MODES: dict[str, t.Verb] = {"image": "generate_image", "video": "generate_video"}


class DiffusionHandler(BaseHandler):
    """What a checkpoint can do is in the table of pipelines, by the class that its index names."""

    modes = {  # noqa: RUF012 -- declared by the base
        "auto": t.Mode(description="Makes what the model is made for.", output="image or video"),
        "image": t.Mode(description="Makes pictures.", output="image"),
        "video": t.Mode(description="Makes a video.", output="video"),
    }
    _painter: pictures.Painter
    _filmer: video.Filmer

    # ------------------------------------------------------------ facts

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return facts.dependencies(spec)

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        return facts.analyze(spec, cls.get_supported_modes(spec))

    @classmethod
    def validate_model_files(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        root = Path(spec.path)
        return tuple(missing(root)) if root.is_dir() else (f"{root.name}: there is no such folder",)

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        return verbs_of(pipeline_class(spec.path))

    @classmethod
    def get_supported_modes(cls, spec: t.ModelSpec | None = None) -> tuple[str, ...]:
        verbs = cls.overridden_verbs() if spec is None else cls.get_model_capabilities(spec)
        return tuple(name for name in cls.modes if name not in _MODES or _MODES[name] in verbs)

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.painting.loading import load_studio

        studio = load_studio(self.spec, report)
        self._verbs = self.get_model_capabilities(self.spec)
        self._painter, self._filmer = pictures.Painter(studio), video.Filmer(studio)

    def validate_inputs(self, request: t.Request) -> None:
        super().validate_inputs(request)
        verb = _verb_of(request)
        self._maker(verb).check(request)
        if request.mode in _MODES and _MODES[request.mode] != verb:
            raise UnsupportedMode(request.mode, tuple(name for name in self.modes if _MODES.get(name, verb) == verb))

    def prepare_inputs(self, request: t.Request) -> Any:
        return self._maker(_verb_of(request)).prepare(request)

    def get_generation_config(self, request: t.Request) -> Any:
        return self._maker(_verb_of(request)).settings(request)

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        return video.answer(raw) if isinstance(request, t.VideoRequest) else pictures.answer(raw)

    # ------------------------------------------------------------ verbs

    def generate_image(self, request: t.ImageRequest, ctx: t.RunContext) -> t.PictureResult:
        inputs = self.prepare_inputs(request)
        config = self.get_generation_config(request)
        ctx.check()
        raw = self._painter.draw(inputs, config, _Finishing(ctx, partial(self.postprocess_outputs, request=request)))
        drawn: t.PictureResult = self.postprocess_outputs(raw, request)
        return drawn

    def generate_video(self, request: t.VideoRequest, ctx: t.RunContext) -> t.VideoResult:
        inputs = self.prepare_inputs(request)
        config = self.get_generation_config(request)
        ctx.check()
        raw = self._filmer.film(inputs, config, _Finishing(ctx, partial(self.postprocess_outputs, request=request)))
        filmed: t.VideoResult = self.postprocess_outputs(raw, request)
        return filmed

    def _maker(self, verb: t.Verb) -> Any:
        """Raises ``UnsupportedCapability``."""
        if verb not in self._verbs:
            raise self._unsupported(verb)
        return self._painter if verb == "generate_image" else self._filmer


class _Finishing:
    """Postprocesses what is emitted."""

    def __init__(self, ctx: t.RunContext, finish: Callable[[Any], Any]) -> None:
        self._ctx = ctx
        self._finish = finish

    def emit(self, delta: Any) -> None:
        self._ctx.emit(self._finish(delta))

    def check(self) -> None:
        self._ctx.check()

    def spend(self, usage: t.Usage) -> None:
        self._ctx.spend(usage)


def _verb_of(request: t.Request) -> t.Verb:
    return "generate_video" if isinstance(request, t.VideoRequest) else "generate_image"
