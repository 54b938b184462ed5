"""Embedding models and rankers: texts, pictures, and pairs of texts, read whole in shared batches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from handlers import types as t
from handlers.base import BaseHandler
from handlers.deferred import Deferred
from handlers.encoding.families import VERBS, role_of
from handlers.encoding.layout import Layout, read_layout
from handlers.encoding.options import EmbeddingOptions
from handlers.loading import options_of
from openai_compat.errors import InvalidRequest, ModelUnavailable, UnsupportedCapability

if TYPE_CHECKING:
    from handlers.encoding.texts import Tokenizer


class EmbeddingHandler(BaseHandler):
    """Encoders of the transformers library, with what sentence-transformers writes beside them; CLIP; cross-encoders.

    Every verb is deferred: what all requests wait for is run together, sorted by length.
    """

    modes = {  # noqa: RUF012 -- declared as ClassVar by the base
        "auto": t.Mode(description="Embeds with the model's default prompt, which for most models is none.", output="vectors"),
        "query": t.Mode(description="Embeds texts as queries, with the prompt that the model has for them.", output="vectors"),
        "document": t.Mode(
            description="Embeds texts as documents, with the prompt that the model has for them.", output="vectors"
        ),
    }

    # ------------------------------------------------------------ facts

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return ("torch>=2.6", "transformers>=5.3", "accelerate>=1.10", "safetensors>=0.6", "pillow>=12.3")

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        role = role_of(spec.path)
        return VERBS[role] if role and role != "classify" else frozenset()

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        """There is no cache of keys and values, and the activations of one batch are small beside the libraries."""
        from handlers.analyze import RUNTIME_BYTES, analyze_snapshot

        found = analyze_snapshot(spec, cls)
        limit = spec.context_length or read_layout(Path(spec.path), options_of(spec, EmbeddingOptions)).max_tokens
        dtype = found.dtype if spec.dtype == "auto" else spec.dtype
        weights = found.bytes_per_dtype.get(dtype, found.bytes_per_dtype["float32"])
        context = min(found.context_length or limit, limit) if limit else found.context_length
        return replace(found, load_bytes=weights + RUNTIME_BYTES, context_length=context, has_chat_template=False)

    @classmethod
    def validate_model_files(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        if problems := super().validate_model_files(spec):
            return problems
        try:
            read_layout(Path(spec.path), options_of(spec, EmbeddingOptions))
        except ModelUnavailable as error:
            return (error.message,)
        return ()

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.encoding.batcher import Batcher
        from handlers.encoding.loading import load

        role = role_of(self.spec.path)
        if role is None or role == "classify":
            raise ModelUnavailable(f"The model '{self.spec.id}' has an architecture that cannot embed or rank.")
        self._verbs = VERBS[role]
        self._model = load(self.spec, role, report)
        self._batcher = Batcher(self._model.run, budget=self._model.budget)

    def validate_inputs(self, request: t.Request) -> None:
        if isinstance(request, t.TokenRequest):
            if request.chat is not None:
                raise UnsupportedCapability(f"The model '{self.spec.id}' reads texts, no chats.", param="messages")
            self._reader().check_ids(request.ids, "tokens")
        if isinstance(request, t.EmbedRequest) and request.dimensions is not None:
            _check_dimensions(request.dimensions, self._model.dimensions, self._model.layout)
        if isinstance(request, t.EmbedRequest) and not request.texts and request.prompt_name is not None:
            raise InvalidRequest("A prompt goes before texts; pictures have none.", param="prompt_name")

    def prepare_inputs(self, request: t.Request) -> Any:
        """Items for the batcher; of pairs the texts first."""
        from handlers.encoding.texts import pair_items

        model = self._model
        if isinstance(request, t.TokenRequest):
            return request.ids if request.text is None else self._reader().plain(request.text, start=request.start)
        if isinstance(request, t.RankRequest) and model.tokenizer is not None:
            return pair_items(model.tokenizer, request)
        if isinstance(request, t.EmbedRequest):
            texts = model.texts.items(request) if request.texts and model.texts else []
            return texts + (model.pictures.items(request.images) if request.images and model.pictures else [])
        raise UnsupportedCapability(f"The model '{self.spec.id}' embeds and ranks only.", param="model")

    def get_generation_config(self, request: t.Request) -> int | None:
        """The length to which vectors are cut; None for their own."""
        return request.dimensions if isinstance(request, t.EmbedRequest) else None

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        """Scores become a ranking, vectors the bytes of the answer."""
        from handlers.encoding.vectors import to_bytes

        if isinstance(request, t.TokenRequest):
            return self._reader().told(tuple(raw), request)
        outputs, tokens, dimensions = raw
        usage = t.Usage(prompt_tokens=tokens)
        if isinstance(request, t.RankRequest):
            return t.RankResult(scores=tuple(outputs), usage=usage)
        return t.EmbedResult(vectors=to_bytes(outputs, dimensions), usage=usage)

    # ------------------------------------------------------------ verbs

    def embed_text(self, request: t.EmbedRequest, ctx: t.RunContext) -> Deferred[t.EmbedResult]:
        return self._submit("embed_text", request, ctx)

    def embed_image(self, request: t.EmbedRequest, ctx: t.RunContext) -> Deferred[t.EmbedResult]:
        return self._submit("embed_image", request, ctx)

    def embed_multimodal(self, request: t.EmbedRequest, ctx: t.RunContext) -> Deferred[t.EmbedResult]:
        """The direction between a text's vector and its picture's."""
        return self._submit("embed_multimodal", request, ctx)

    def rank_text(self, request: t.RankRequest, ctx: t.RunContext) -> Deferred[t.RankResult]:
        return self._submit("rank_text", request, ctx)

    def tokenize_text(self, request: t.TokenRequest, ctx: t.RunContext) -> t.TokenResult:
        ctx.check()
        result: t.TokenResult = self.postprocess_outputs(self.prepare_inputs(request), request)
        return result

    def _reader(self) -> Tokenizer:
        if self._model.tokenizer is None:
            raise self._unsupported("tokenize_text")
        return self._model.tokenizer

    def _submit(self, verb: t.Verb, request: t.EmbedRequest | t.RankRequest, ctx: t.RunContext) -> Deferred[Any]:
        if verb not in self._verbs:
            raise self._unsupported(verb)
        items = self.prepare_inputs(request)
        dimensions = self.get_generation_config(request)
        tokens = sum(item.tokens for item in items)
        pairs = verb == "embed_multimodal"
        return self._batcher.submit(items, ctx, partial(self._result, request, tokens, dimensions, pairs))

    def _result(self, request: t.Request, tokens: int, dimensions: int | None, pairs: bool, outputs: list[Any]) -> Any:
        from handlers.encoding.vectors import joined

        return self.postprocess_outputs((joined(outputs) if pairs else outputs, tokens, dimensions), request)


def _check_dimensions(wanted: int, full: int, layout: Layout) -> None:
    """Raises ``InvalidRequest`` unless a vector may be cut to this length and still mean the same."""
    allowed = layout.matryoshka
    if wanted == full or (allowed is True and wanted < full) or (isinstance(allowed, tuple) and wanted in allowed):
        return
    lengths = f"{full} alone" if allowed is False else f"up to {full}"
    if isinstance(allowed, tuple):
        lengths = ", ".join(map(str, sorted({*allowed, full})))
    raise InvalidRequest(f"'dimensions' cannot be {wanted}; this model's vectors can have {lengths}.", param="dimensions")
