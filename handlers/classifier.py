"""Text classifiers: what kind of text a text is, in OpenAI's categories of moderation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from handlers import types as t
from handlers.base import BaseHandler
from handlers.deferred import Deferred
from handlers.encoding.classes import ClassifierOptions, Judge, meanings_of
from handlers.encoding.families import VERBS, labels_of, role_of
from handlers.loading import options_of
from openai_compat.errors import ModelUnavailable, UnsupportedCapability


class ClassifierHandler(BaseHandler):
    """The models of transformers that give a text labels, several at once or one of several.

    Long texts are read in windows, of which the highest score counts. What all requests wait for is run together.
    """

    modes = {  # noqa: RUF012 -- declared as ClassVar by the base
        "auto": t.Mode(description="Tells in which categories a text is.", output="labels")
    }

    # ------------------------------------------------------------ facts

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return ("torch>=2.6", "transformers>=5.3", "accelerate>=1.10", "safetensors>=0.6")

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        return VERBS["classify"] if role_of(spec.path) == "classify" else frozenset()

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        """There is no cache of keys and values, and the activations of one batch are small beside the libraries."""
        from handlers.analyze import RUNTIME_BYTES, analyze_snapshot

        found = analyze_snapshot(spec, cls)
        dtype = found.dtype if spec.dtype == "auto" else spec.dtype
        weights = found.bytes_per_dtype.get(dtype, found.bytes_per_dtype["float32"])
        return replace(found, load_bytes=weights + RUNTIME_BYTES, has_chat_template=False)

    @classmethod
    def validate_model_files(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        if problems := super().validate_model_files(spec):
            return problems
        try:
            meanings_of(spec, labels_of(Path(spec.path)), options_of(spec, ClassifierOptions))
        except ModelUnavailable as error:
            return (error.message,)
        return ()

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.encoding.batcher import Batcher
        from handlers.encoding.loading import load_classifier

        if role_of(self.spec.path) != "classify":
            raise ModelUnavailable(f"The model '{self.spec.id}' is no classifier of texts.")
        options = options_of(self.spec, ClassifierOptions)
        self._judge = Judge(self.spec, labels_of(Path(self.spec.path)), options)
        self._model = load_classifier(self.spec, options.batch_tokens, report)
        self._batcher = Batcher(self._model.run, budget=self._model.budget)

    def validate_inputs(self, request: t.Request) -> None:
        if isinstance(request, t.TokenRequest):
            if request.chat is not None:
                raise UnsupportedCapability(f"The model '{self.spec.id}' reads texts, no chats.", param="messages")
            self._model.reader.check_ids(request.ids, "tokens")

    def prepare_inputs(self, request: t.Request) -> Any:
        """Of each text the items for the batcher, one a window."""
        if isinstance(request, t.TokenRequest):
            return request.ids if request.text is None else self._model.reader.plain(request.text, start=request.start)
        if isinstance(request, t.ClassifyRequest):
            return [self._model.reader.window_items(text) for text in request.texts]
        raise UnsupportedCapability(f"The model '{self.spec.id}' classifies texts only.", param="model")

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        """Each window's scores become each text's verdict."""
        if isinstance(request, t.TokenRequest):
            return self._model.reader.told(tuple(raw), request)
        texts, tokens = raw
        return t.ClassifyResult(verdicts=tuple(map(self._judge.verdict, texts)), usage=t.Usage(prompt_tokens=tokens))

    # ------------------------------------------------------------ verbs

    def classify_text(self, request: t.ClassifyRequest, ctx: t.RunContext) -> Deferred[t.ClassifyResult]:
        windows = self.prepare_inputs(request)
        items = [item for own in windows for item in own]
        return self._batcher.submit(items, ctx, partial(self._result, request, [len(own) for own in windows], items))

    def tokenize_text(self, request: t.TokenRequest, ctx: t.RunContext) -> t.TokenResult:
        ctx.check()
        result: t.TokenResult = self.postprocess_outputs(self.prepare_inputs(request), request)
        return result

    def _result(self, request: t.ClassifyRequest, sizes: list[int], items: list[Any], outputs: list[Any]) -> t.ClassifyResult:
        rows = iter(outputs)
        texts = [[next(rows) for _ in range(size)] for size in sizes]
        result: t.ClassifyResult = self.postprocess_outputs((texts, sum(item.tokens for item in items)), request)
        return result
