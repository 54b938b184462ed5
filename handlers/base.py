"""The one interface of every model family.

A handler is constructed with a ``ModelSpec``, loaded once, and then used by one thread. Facts are classmethods that read files
and load nothing. A verb shows its pipeline in plain sight::

    inputs = self.prepare_inputs(request)
    config = self.get_generation_config(request)
    raw = <the model>(inputs, config)
    return self.postprocess_outputs(raw, request)

A verb that shares its model with other requests does not wait for the model: it submits and returns a ``Deferred``, whose
driver is stepped by whoever called the verb.

Heavy libraries are imported inside methods only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar

from handlers import types as t
from handlers.deferred import Deferred
from openai_compat.errors import UnsupportedCapability, UnsupportedParameter

RequestT = TypeVar("RequestT", bound=t.Request)


class BaseHandler(ABC):
    """Facts, pipeline, modes and verbs of one model family.

    Attributes:
        modes: the family's modes by name; ``get_supported_modes`` and its companions derive from it.
    """

    modes: ClassVar[dict[str, t.Mode]] = {}
    audio_rate = 16_000
    """Samples a second of the recordings that the handler is given; a handler may say its own once it is loaded."""

    def __init__(self, spec: t.ModelSpec) -> None:
        self.spec = spec

    # ------------------------------------------------------------ facts

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        """Python distributions that this model needs, as requirement strings."""
        return ()

    @classmethod
    def get_system_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        """Programs and shared libraries that this model needs, by their usual names."""
        return ()

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        """Read the model's headers and tell what it is and needs. Raises ``ModelUnavailable`` where they cannot be read."""
        from handlers.analyze import analyze_snapshot

        return analyze_snapshot(spec, cls)

    @classmethod
    def validate_model_files(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        """Problems of the model's files, one line each, naming the file; empty when it can be loaded."""
        from handlers.analyze import missing_files

        return missing_files(spec)

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        """The verbs that this checkpoint supports: a subset of those the class overrides."""
        return cls.overridden_verbs()

    @classmethod
    def overridden_verbs(cls) -> frozenset[t.Verb]:
        """The verbs that the class implements; necessary for a capability, not sufficient."""
        return frozenset(v for v in t.VERBS if getattr(cls, v) is not getattr(BaseHandler, v))

    # ------------------------------------------------------------ pipeline

    @abstractmethod
    def load_model(self, report: t.LoadReport) -> None:
        """Load weights and everything a verb needs. Raises ``ModelUnavailable`` with a reason a client may read."""

    def validate_inputs(self, request: t.Request) -> None:
        """Refuse what this model cannot do, which is to keep to a grammar unless a family says otherwise.

        Raises ``InvalidRequest`` naming the field.
        """
        if isinstance(request, t.TextRequest) and request.grammar is not None:
            param = request.grammar.param
            message = f"Unsupported parameter: '{param}'. The answers of '{self.spec.id}' cannot be held to a form."
            raise UnsupportedParameter(message, param=param)

    def prepare_inputs(self, request: t.Request) -> Any:
        """Turn a request into what the model runs on (tensors, token ids, an engine's input)."""
        return request

    def get_generation_config(self, request: t.Request) -> Any:
        """The effective parameters: the request's, else the mode's (already applied), else the model's own defaults."""
        return None

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        """Turn raw output into a result; for a stream it is called for each delta too."""
        return raw

    # ------------------------------------------------------------ modes

    @classmethod
    def get_supported_modes(cls, spec: t.ModelSpec | None = None) -> tuple[str, ...]:
        return tuple(cls.modes)

    @classmethod
    def get_mode_descriptions(cls) -> dict[str, str]:
        return {name: mode.description for name, mode in cls.modes.items()}

    def _has_chat_template(self) -> bool:
        """Whether messages can be rendered the model's own way; the mode ``auto`` asks."""
        return True

    def apply_mode_settings(self, request: RequestT) -> RequestT:
        """Fill what the client left open from the request's mode. Raises ``UnsupportedMode``."""
        from handlers.modes import apply_mode

        return apply_mode(self, request)

    # ------------------------------------------------------------ verbs

    def generate_text(self, request: t.TextRequest, ctx: t.RunContext) -> t.TextResult | Deferred[t.TextResult]:
        """Continue a chat or prompts; emits ``TextDelta``."""
        raise self._unsupported("generate_text")

    def generate_image(self, request: t.ImageRequest, ctx: t.RunContext) -> t.PictureResult | Deferred[t.PictureResult]:
        """Make pictures; emits ``ProgressDelta`` a step, and ``PictureDelta`` for partial pictures."""
        raise self._unsupported("generate_image")

    def generate_audio(self, request: t.SpeechRequest, ctx: t.RunContext) -> t.SoundResult:
        """Speak or make sound; emits all of it as ``SoundDelta``."""
        raise self._unsupported("generate_audio")

    def generate_video(self, request: t.VideoRequest, ctx: t.RunContext) -> t.VideoResult:
        """Make a video; emits ``ProgressDelta`` a step, then all of it as ``FrameDelta``."""
        raise self._unsupported("generate_video")

    def process_image(
        self, request: t.ImageTaskRequest, ctx: t.RunContext
    ) -> t.LabelResult | t.DepthResult | Deferred[t.LabelResult | t.DepthResult]:
        """Classify, detect, segment, or estimate depth."""
        raise self._unsupported("process_image")

    def process_audio(self, request: t.AudioTaskRequest, ctx: t.RunContext) -> t.TranscriptResult | t.LabelResult:
        """Transcribe, translate or classify a recording; emits ``TextDelta``."""
        raise self._unsupported("process_audio")

    def process_multimodal(
        self, request: t.TextRequest, ctx: t.RunContext
    ) -> t.TextResult | t.SightResult | Deferred[t.TextResult] | Deferred[t.SightResult]:
        """Answer a chat with pictures or sound in it; emits ``TextDelta``. A model without words returns a ``SightResult``."""
        raise self._unsupported("process_multimodal")

    def embed_text(self, request: t.EmbedRequest, ctx: t.RunContext) -> t.EmbedResult | Deferred[t.EmbedResult]:
        """One vector a text."""
        raise self._unsupported("embed_text")

    def embed_image(self, request: t.EmbedRequest, ctx: t.RunContext) -> t.EmbedResult | Deferred[t.EmbedResult]:
        """One vector a picture."""
        raise self._unsupported("embed_image")

    def embed_multimodal(self, request: t.EmbedRequest, ctx: t.RunContext) -> t.EmbedResult | Deferred[t.EmbedResult]:
        """One vector a pair of text and picture."""
        raise self._unsupported("embed_multimodal")

    def rank_text(self, request: t.RankRequest, ctx: t.RunContext) -> t.RankResult | Deferred[t.RankResult]:
        """The relevance of each document to the query."""
        raise self._unsupported("rank_text")

    def classify_text(self, request: t.ClassifyRequest, ctx: t.RunContext) -> t.ClassifyResult | Deferred[t.ClassifyResult]:
        """In which categories of moderation each text is."""
        raise self._unsupported("classify_text")

    def tokenize_text(self, request: t.TokenRequest, ctx: t.RunContext) -> t.TokenResult:
        """A chat or a text as the model's tokens, or tokens as text; done at once, whatever else the model is doing."""
        raise self._unsupported("tokenize_text")

    def _unsupported(self, verb: t.Verb) -> UnsupportedCapability:
        return UnsupportedCapability(f"The model '{self.spec.id}' does not support {verb.replace('_', ' ')}.", param="model")
