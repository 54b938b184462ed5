"""Vision models: what is in a picture, where, which pixels belong to it, and how far away everything is."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from handlers import types as t
from handlers.base import BaseHandler
from handlers.deferred import Deferred
from handlers.seeing.families import Family, family_of
from openai_compat.errors import InvalidRequest, ModelUnavailable, UnsupportedCapability, UnsupportedParameter

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_WORDS = {"depth": "estimate depths"}
_ROOM = 256 * 2**20  # bytes for the activations of a batch and the masks made of them


class VisionHandler(BaseHandler):
    """The families of ``handlers.seeing.families``. Requests that come close together share a forward."""

    modes = {  # noqa: RUF012 -- declared as ClassVar by the base
        "auto": t.Mode(description="Does what the model is made for.", requires="image", output="json"),
        "classify": t.Mode(description="Says what a picture shows.", requires="image", output="json"),
        "detect": t.Mode(description="Finds things and the boxes around them.", requires="image", output="json"),
        "segment": t.Mode(description="Finds things and the pixels that belong to them.", requires="image", output="json"),
        "depth": t.Mode(description="Estimates how far away each pixel is.", requires="image", output="json"),
    }

    # ------------------------------------------------------------ facts

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        usual = ("torch>=2.6", "transformers>=5.3", "accelerate>=1.10", "safetensors>=0.6", "numpy>=2.0", "pillow>=12.3")
        family = family_of(spec.path)
        return usual + (family.needs if family else ())

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        return frozenset({"process_image", "process_multimodal"}) if family_of(spec.path) else frozenset()

    @classmethod
    def get_supported_modes(cls, spec: t.ModelSpec | None = None) -> tuple[str, ...]:
        family = family_of(spec.path) if spec else None
        return tuple(cls.modes) if family is None else ("auto", *family.tasks)

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        """A processor computes in float32, whatever the files hold; there is no cache and no context."""
        from handlers.analyze import RUNTIME_BYTES, analyze_snapshot

        found = analyze_snapshot(spec, cls)
        weights = found.bytes_per_dtype.get("float32" if spec.dtype == "auto" else spec.dtype, found.load_bytes)
        return replace(found, load_bytes=weights + _ROOM + RUNTIME_BYTES, context_length=None, has_chat_template=False)

    @classmethod
    def validate_model_files(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        from handlers.analyze import missing_files

        family = family_of(spec.path)
        problems = missing_files(spec, words=family is not None and family.words)
        if not problems and not any((Path(spec.path) / name).is_file() for name in _PROCESSORS):
            problems = ("preprocessor_config.json: is missing",)
        return problems

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.encoding.batcher import Batcher

        self._family = _known(self.spec)
        module, _, name = self._family.backend.partition(":")
        self._backend = getattr(import_module(module), name)(self.spec, self._family, report)
        self._batcher = Batcher(self._backend.run, budget=self._backend.budget)

    def validate_inputs(self, request: t.Request) -> None:
        """Raises ``InvalidRequest`` naming the field."""
        if isinstance(request, t.TextRequest):
            _check_chat(request)
        task = self._task(request)
        if task not in self._family.tasks:
            able = " and ".join(_WORDS.get(name, name) for name in self._family.tasks)
            message = f"The model '{self.spec.id}' cannot {_WORDS.get(task, task)}; it can {able}."
            raise UnsupportedCapability(message, param="model")
        if isinstance(request, t.ImageTaskRequest):
            self._check_labels(request.labels)

    def prepare_inputs(self, request: t.Request) -> Any:
        """Pictures for the batcher; those to be searched for other labels run apart."""
        from handlers.encoding.batcher import Item
        from handlers.seeing.backend import View
        from handlers.seeing.chat import labels_of, pictures_of

        pictures: tuple[t.Picture, ...]
        if isinstance(request, t.ImageTaskRequest):
            pictures, labels = (request.picture,), request.labels
        elif isinstance(request, t.TextRequest):
            pictures, labels = pictures_of(request), labels_of(request) if self._family.words else ()
        else:
            raise UnsupportedCapability(f"The model '{self.spec.id}' looks at pictures only.", param="model")
        lane = "\n".join(labels)
        views = [View(picture=picture, labels=labels) for picture in pictures]
        length = self._backend.patches
        return [Item(lane=lane, length=length, inputs=view, tokens=self._backend.tokens_of(view)) for view in views]

    def get_generation_config(self, request: t.Request) -> Any:
        """The request's own parameters, else those that the family is usually asked with."""
        from handlers.seeing.backend import Wanted

        task, top_k = self._task(request), self._backend.top_k
        threshold = self._backend.usual_threshold(task)
        if isinstance(request, t.ImageTaskRequest):
            threshold = threshold if request.threshold is None else request.threshold
            top_k = request.top_k or top_k
        return Wanted(task=task, threshold=threshold, top_k=top_k)

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        return raw

    # ------------------------------------------------------------ verbs

    def process_image(
        self, request: t.ImageTaskRequest, ctx: t.RunContext
    ) -> t.LabelResult | t.DepthResult | Deferred[t.LabelResult | t.DepthResult]:
        items = self.prepare_inputs(request)
        wanted = self.get_generation_config(request)

        def finish(outputs: list[Any]) -> Any:
            return self.postprocess_outputs(self._backend.find(outputs[0], items[0].inputs, wanted), request)

        return self._batcher.submit(items, ctx, finish)

    def process_multimodal(self, request: t.TextRequest, ctx: t.RunContext) -> Deferred[t.SightResult]:
        """What each picture of the chat holds; a translation makes words of it."""
        items = self.prepare_inputs(request)
        wanted = self.get_generation_config(request)
        return self._batcher.submit(items, ctx, partial(self._sightings, request, items, wanted))

    def _sightings(self, request: t.TextRequest, items: list[Any], wanted: Any, outputs: list[Any]) -> Any:
        found = [
            _sighting(item.inputs.picture, self._backend.find(output, item.inputs, wanted))
            for output, item in zip(outputs, items, strict=True)
        ]
        usage = t.Usage(prompt_tokens=sum(item.tokens for item in items))
        return self.postprocess_outputs(t.SightResult(sightings=tuple(found), usage=usage), request)

    # ------------------------------------------------------------ checks

    def _task(self, request: t.Request) -> t.VisionTask:
        """What is asked for. Raises ``InvalidRequest`` where a route and a mode say different things."""
        mode = getattr(request, "mode", None)
        named = mode if mode not in (None, "auto") else None
        asked = request.task if isinstance(request, t.ImageTaskRequest) else None
        if named and asked and named != asked:
            raise InvalidRequest(f"The mode '{named}' does not go with a request to {asked}.", param="mode")
        task: t.VisionTask = asked or named or self._family.tasks[0]
        return task

    def _check_labels(self, labels: tuple[str, ...]) -> None:
        if self._family.words and not labels:
            raise InvalidRequest("This model needs the labels to look for.", param="labels")
        if labels and not self._family.words:
            message = "Unsupported parameter: 'labels'. This model has labels of its own."
            raise UnsupportedParameter(message, param="labels")


def _sighting(picture: t.Picture, found: t.LabelResult | t.DepthResult) -> t.Sighting:
    width, height = picture.full_size
    return t.Sighting(width=width, height=height, found=found)


def _known(spec: t.ModelSpec) -> Family:
    family = family_of(spec.path)
    if family is None:
        raise ModelUnavailable(f"The model '{spec.id}' has an architecture that is no vision model known here.")
    return family


def _check_chat(request: t.TextRequest) -> None:
    """An answer is one JSON text, whatever is asked; what it could not be is refused."""
    grammar = request.grammar
    refused = {
        "n": (request.sampling.n > 1, "There is one answer."),
        "logprobs": (request.sampling.logprobs is not None, "The answer is not made of tokens."),
        "tool_choice": (request.must_call, "The model calls no tools."),
        grammar.param if grammar else "": (
            grammar is not None and grammar.kind != "json_object",
            "The form is the model's own.",
        ),
    }
    for param, (applies, reason) in refused.items():
        if applies:
            raise UnsupportedParameter(f"Unsupported parameter: '{param}'. {reason}", param=param)
