"""Language models that see pictures or hear sounds: chats with both, answered as any chat is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from handlers import types as t
from handlers.deferred import Deferred
from handlers.mixing.families import MEDIA, NEEDS, architecture_of, is_apart
from handlers.mixing.modes import MULTIMODAL_MODES
from handlers.transformer import TransformerHandler
from openai_compat.errors import UnsupportedCapability

if TYPE_CHECKING:
    from handlers.decoding.ticket import TextEngine
    from handlers.mixing.prompts import MediaPromptBuilder

_NAMES = {"image": "pictures", "audio": "sounds"}


class MultimodalHandler(TransformerHandler):
    """Chat with pictures and sounds by the models of transformers that take them, with everything that a text chat has.

    The tokens of pictures and sounds count as tokens of the prompt.
    """

    modes = MULTIMODAL_MODES
    _prompts: MediaPromptBuilder

    # ------------------------------------------------------------ facts

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return (*super().get_dependencies(spec), "pillow>=12.3", *NEEDS.get(architecture_of(spec.path), ()))

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        known = architecture_of(spec.path) in MEDIA
        return frozenset({"generate_text", "process_multimodal", "tokenize_text"}) if known else frozenset()

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        """The matrices keep the model's dtype: packing them is for models of text."""
        found = super().analyze(spec)
        return replace(found, path="generate" if is_apart(spec.path) else found.path, weights="dtype")

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.mixing.loading import load
        from handlers.mixing.prompts import MediaPromptBuilder

        mixed = load(self.spec, report)
        self._mixed = mixed
        self._lm = mixed.lm
        self._media = MEDIA.get(architecture_of(self.spec.path), frozenset())
        self._prompts = MediaPromptBuilder(
            self._lm.vocabulary,
            self._lm.template,
            mixed.processor,
            dtype=self._lm.model.dtype,
            device=self._lm.model.device,
            context_length=self._lm.context_length,
            bos=self._lm.bos,
        )
        self._engine = self._serve()
        if "audio" in self._media:
            self.audio_rate = mixed.processor.feature_extractor.sampling_rate
        self._prepare_reading()

    def _serve(self) -> TextEngine:
        """Packed with others where a prompt with a picture or sound comes out the same that way, else each by itself."""
        from handlers.decoding import serving
        from handlers.decoding.engine import Engine
        from handlers.mixing.reader import MediaReader

        reader = MediaReader(self._lm.model)
        trials = [partial(self._prompts.trial, medium, reader) for medium in sorted(self._media)]
        engine = serving.create(self.spec, self._lm, trials)
        if isinstance(engine, Engine):
            self._prompts.read_with(reader)
        return engine

    def _check_parts(self, message: t.Message, param: str) -> None:
        media = {part.__struct_config__.tag for part in message.parts} - {"text"}
        if unknown := media - self._media:
            text = f"The model '{self.spec.id}' takes no {_NAMES[str(unknown.pop())]}."
            raise UnsupportedCapability(text, param=param)
        if media and message.role == "system":
            raise UnsupportedCapability("Pictures and sounds cannot stand in system messages.", param=param)

    # ------------------------------------------------------------ verbs

    def process_multimodal(self, request: t.TextRequest, ctx: t.RunContext) -> Deferred[t.TextResult]:
        return self._answer(request, ctx)
