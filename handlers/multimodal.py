"""Language models that see pictures or hear sounds: chats with both, answered as any chat is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers import types as t
from handlers.deferred import Deferred
from handlers.mixing.families import MEDIA, architecture_of
from handlers.mixing.modes import MULTIMODAL_MODES
from handlers.transformer import TransformerHandler
from openai_compat.errors import UnsupportedCapability

if TYPE_CHECKING:
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
        return (*super().get_dependencies(spec), "pillow>=12.3")

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        known = architecture_of(spec.path) in MEDIA
        return frozenset({"generate_text", "process_multimodal"}) if known else frozenset()

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.decoding.generate_path import GeneratePath
        from handlers.mixing.loading import load
        from handlers.mixing.prompts import MediaPromptBuilder

        mixed = load(self.spec, report)
        self._mixed = mixed
        self._lm = mixed.lm
        self._media = MEDIA.get(architecture_of(self.spec.path), frozenset())
        self._engine = GeneratePath(self._lm.model, self._lm.vocabulary, vocab_size=self._lm.vocab_size)
        self._prompts = MediaPromptBuilder(
            self._lm.vocabulary,
            self._lm.template,
            mixed.processor,
            dtype=self._lm.model.dtype,
            device=self._lm.model.device,
            context_length=self._lm.context_length,
            bos=self._lm.bos,
        )
        if "audio" in self._media:
            self.audio_rate = mixed.processor.feature_extractor.sampling_rate
        self._prepare_reading()

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
