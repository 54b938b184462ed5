"""Causal language models of the transformers library."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers import types as t
from handlers.base import BaseHandler
from handlers.decoding.params import TextConfig, effective
from handlers.decoding.ticket import Generation
from handlers.decoding.transcript import Answer, Piece
from handlers.deferred import Deferred
from handlers.text_modes import TEXT_MODES
from openai_compat.errors import InvalidRequest, UnsupportedCapability

if TYPE_CHECKING:
    from handlers.decoding.ticket import Prompt

_CAUSAL = ("ForCausalLM", "LMHeadModel")


class TransformerHandler(BaseHandler):
    """Chat and completion with any causal model that transformers knows, without code from the model's repository.

    ``completion_tokens`` counts every generated token, the one that ended the answer too; log probabilities cover the tokens
    that became text.
    """

    modes = TEXT_MODES

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return ("torch>=2.6", "transformers>=5.3", "accelerate>=1.10", "safetensors>=0.6")

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        try:
            config = json.loads(Path(spec.path, "config.json").read_bytes())
            names = config["architectures"]
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()
        causal = any(str(name).endswith(_CAUSAL) for name in names or ())
        return cls.overridden_verbs() if causal else frozenset()

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.causal_lm import load
        from handlers.decoding import serving
        from handlers.prompts import PromptBuilder

        self._lm = load(self.spec, report)
        self._engine = serving.create(self.spec, self._lm)
        self._prompts = PromptBuilder(
            self._lm.vocabulary, self._lm.template, context_length=self._lm.context_length, bos=self._lm.bos
        )

    def _has_chat_template(self) -> bool:
        return self._lm.template is not None

    def validate_inputs(self, request: t.Request) -> None:
        if not isinstance(request, t.TextRequest):
            raise UnsupportedCapability(f"The model '{self.spec.id}' answers texts only.", param="model")
        for i, message in enumerate(request.messages or ()):
            if any(not isinstance(part, t.TextPart) for part in message.parts):
                raise UnsupportedCapability(f"The model '{self.spec.id}' reads text only.", param=f"messages[{i}].content")
        for prompt in request.prompts or ():
            self._check_ids(prompt if isinstance(prompt, tuple) else (), "prompt")
        sampling = request.sampling
        self._check_ids(sampling.logit_bias, "logit_bias")
        self._check_ids(sampling.stop_token_ids, "stop_token_ids")
        if request.stream and (sampling.best_of or sampling.n) > sampling.n:
            raise InvalidRequest("'best_of' above 'n' cannot be streamed.", param="best_of")

    def prepare_inputs(self, request: t.Request) -> tuple[Prompt, ...]:
        if not isinstance(request, t.TextRequest):
            raise UnsupportedCapability(f"The model '{self.spec.id}' answers texts only.", param="model")
        return self._prompts.build(request)

    def get_generation_config(self, request: t.Request) -> TextConfig:
        if not isinstance(request, t.TextRequest):
            raise UnsupportedCapability(f"The model '{self.spec.id}' answers texts only.", param="model")
        return effective(request, self._lm.defaults, self._prompts.extra_stops(request))

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        """A ``Piece`` becomes a delta, a ``Generation`` the result."""
        if isinstance(raw, Piece):
            return t.TextDelta(index=raw.index, text=raw.text, logprobs=raw.logprobs)
        kept = [answer for group in raw.answers for answer in _best(group, raw.keep)]
        choices = tuple(
            t.TextChoice(index=i, text=answer.text, finish_reason=answer.finish_reason, logprobs=answer.logprobs)
            for i, answer in enumerate(kept)
        )
        return t.TextResult(choices=choices, usage=_usage(raw))

    # ------------------------------------------------------------ verbs

    def generate_text(self, request: t.TextRequest, ctx: t.RunContext) -> Deferred[t.TextResult]:
        prompts = self.prepare_inputs(request)
        config = self.get_generation_config(request)
        on_piece = partial(self._emit, request, ctx, config)
        on_end = partial(self._result, request)
        return self._engine.submit(prompts, config, ctx, on_piece=on_piece, on_end=on_end, salt=request.cache_salt)

    def _emit(self, request: t.TextRequest, ctx: t.RunContext, config: TextConfig, piece: Piece) -> None:
        """Answers that are still to be ranked are not shown."""
        delta = self.postprocess_outputs(piece, request)
        if not config.ranks:
            ctx.emit(delta)

    def _result(self, request: t.TextRequest, generation: Generation) -> t.TextResult:
        result: t.TextResult = self.postprocess_outputs(generation, request)
        return result

    def _check_ids(self, ids: Any, param: str) -> None:
        size = self._lm.vocab_size
        wrong = next((number for number in ids if not 0 <= number < size), None)
        if wrong is not None:
            raise InvalidRequest(f"There is no token {wrong}; this model's ids are 0 to {size - 1}.", param=param)


def _best(answers: tuple[Answer, ...], keep: int) -> list[Answer]:
    """The ``keep`` answers with the highest mean log probability a token, likeliest first; all of them as they are."""
    if keep == len(answers):
        return list(answers)
    return sorted(answers, key=lambda answer: answer.mean_logprob, reverse=True)[:keep]


def _usage(generation: Generation) -> t.Usage:
    return t.Usage(
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=sum(len(answer.tokens) for group in generation.answers for answer in group),
        cached_tokens=generation.cached_tokens,
    )
