"""Causal language models of the transformers library."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from handlers import types as t
from handlers.base import BaseHandler
from handlers.decoding.params import TextConfig, effective
from handlers.decoding.ticket import Generation
from handlers.decoding.transcript import Answer, Piece
from handlers.deferred import Deferred
from handlers.output import AnswerReader, format_of
from handlers.text_modes import TEXT_MODES
from handlers.tool_grammar import grammar_for
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
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        from handlers.decoding.outlook import outlook

        found = super().analyze(spec)
        expected = outlook(spec, found)
        return replace(found, path=expected.path, weights=expected.weights)

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return ("torch>=2.6", "transformers>=5.3", "accelerate>=1.10", "safetensors>=0.6", "llguidance>=1.9")

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
        from handlers.loading import load_errors
        from handlers.prompts import PromptBuilder

        self._lm = load(self.spec, report)
        with load_errors(self.spec):
            self._engine = serving.create(self.spec, self._lm)
        self._prompts = PromptBuilder(
            self._lm.vocabulary, self._lm.template, context_length=self._lm.context_length, bos=self._lm.bos
        )
        self._prepare_reading()

    def _prepare_reading(self) -> None:
        """What holds answers to a form, and what finds calls and reasoning in them."""
        from handlers.decoding.grammar import Grammars

        self._grammars = Grammars(self._lm.vocabulary, vocab_size=self._lm.vocab_size, ends=self._lm.defaults.eos_ids)
        self._form = format_of(self.spec.options, self._lm.template)
        self._lm.vocabulary.show(self._form.marks)
        self._marks_calls = self._form.marks_calls and not set(self._form.marks) & set(self._lm.vocabulary.special_texts)

    def _has_chat_template(self) -> bool:
        return self._lm.template is not None

    def validate_inputs(self, request: t.Request) -> None:
        if isinstance(request, t.TokenRequest):
            self._check_ids(request.ids, "tokens", each=True)
            if request.chat is not None:
                self.validate_inputs(request.chat)
            return
        if not isinstance(request, t.TextRequest):
            raise UnsupportedCapability(f"The model '{self.spec.id}' answers texts only.", param="model")
        for i, message in enumerate(request.messages or ()):
            self._check_parts(message, f"messages[{i}].content")
        for prompt in request.prompts or ():
            self._check_ids(prompt if isinstance(prompt, tuple) else (), "prompt")
        sampling = request.sampling
        self._check_ids(sampling.logit_bias, "logit_bias")
        self._check_ids(sampling.stop_token_ids, "stop_token_ids")
        if request.stream and (sampling.best_of or sampling.n) > sampling.n:
            raise InvalidRequest("'best_of' above 'n' cannot be streamed.", param="best_of")

    def prepare_inputs(self, request: t.Request) -> tuple[Prompt, ...]:
        if isinstance(request, t.TokenRequest):
            return (self._prompts.tokenized(request),)
        if not isinstance(request, t.TextRequest):
            raise UnsupportedCapability(f"The model '{self.spec.id}' answers texts only.", param="model")
        return self._prompts.build(request)

    def get_generation_config(self, request: t.Request) -> TextConfig:
        if not isinstance(request, t.TextRequest):
            raise UnsupportedCapability(f"The model '{self.spec.id}' answers texts only.", param="model")
        return effective(request, self._lm.defaults, self._prompts.extra_stops(request))

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        """A piece of an answer becomes a delta; a ``Generation`` with the choices that were read in it becomes the result."""
        if isinstance(request, t.TokenRequest):
            return self._tokens(raw, request)
        if isinstance(raw, t.TextDelta):
            return raw
        if isinstance(raw, Piece):
            return t.TextDelta(index=raw.index, text=raw.text, logprobs=raw.logprobs)
        generation, choices, thoughts = raw
        return t.TextResult(choices=choices, usage=_usage(generation, reasoning_tokens=thoughts))

    # ------------------------------------------------------------ verbs

    def generate_text(self, request: t.TextRequest, ctx: t.RunContext) -> Deferred[t.TextResult]:
        return self._answer(request, ctx)

    def tokenize_text(self, request: t.TokenRequest, ctx: t.RunContext) -> t.TokenResult:
        ctx.check()
        (prompt,) = self.prepare_inputs(request)
        result: t.TokenResult = self.postprocess_outputs(prompt, request)
        return result

    def _tokens(self, prompt: Prompt, request: t.TokenRequest) -> t.TokenResult:
        spelled = self._lm.vocabulary.tokenizer.convert_ids_to_tokens(list(prompt.ids)) if request.spelled else None
        return t.TokenResult(
            ids=prompt.ids,
            text=prompt.text,
            pieces=None if spelled is None else tuple(piece or "" for piece in spelled),
            context_length=self._lm.context_length,
        )

    def _answer(self, request: t.TextRequest, ctx: t.RunContext) -> Deferred[t.TextResult]:
        prompts = self.prepare_inputs(request)
        config = self.get_generation_config(request)
        reader = AnswerReader(self._form, request, prompts[0].text if prompts else "")
        on_piece = partial(self._emit, request, ctx, config, reader)
        on_end = partial(self._result, request, ctx, config, reader)
        submit = partial(self._engine.submit, prompts, config, ctx, on_piece=on_piece, on_end=on_end, salt=request.cache_salt)
        grammar = grammar_for(request, marks=self._marks_calls)
        if grammar is None:
            return submit()
        from handlers.decoding.grammar_wait import Prepared

        return Prepared(self._engine, ctx, self._grammars.compile(grammar), lambda matcher: submit(new_matcher=matcher))

    def _emit(self, request: t.TextRequest, ctx: t.RunContext, config: TextConfig, reader: AnswerReader, piece: Piece) -> None:
        """Answers that are still to be ranked are not shown."""
        if not config.ranks:
            for shown in reader.feed(piece):
                ctx.emit(self.postprocess_outputs(shown, request))

    def _result(
        self, request: t.TextRequest, ctx: t.RunContext, config: TextConfig, reader: AnswerReader, generation: Generation
    ) -> t.TextResult:
        choices, thoughts = [], 0
        for i, answer in enumerate(answer for group in generation.answers for answer in _best(group, generation.keep)):
            rest, choice = reader.finish(_plain(i, answer))
            for shown in rest if not config.ranks else ():
                ctx.emit(self.postprocess_outputs(shown, request))
            choices.append(choice)
            thoughts += reader.reasoning_tokens(i, map(self._lm.vocabulary.shown_size, answer.tokens))
        result: t.TextResult = self.postprocess_outputs((generation, tuple(choices), thoughts), request)
        return result

    def _check_parts(self, message: t.Message, param: str) -> None:
        if any(not isinstance(part, t.TextPart) for part in message.parts):
            raise UnsupportedCapability(f"The model '{self.spec.id}' reads text only.", param=param)

    def _check_ids(self, ids: Any, param: str, *, each: bool = False) -> None:
        """``each``: the error names the place in the list, too."""
        size = self._lm.vocab_size
        wrong = next(((i, number) for i, number in enumerate(ids) if not 0 <= number < size), None)
        if wrong is not None:
            place = f"{param}[{wrong[0]}]" if each else param
            raise InvalidRequest(f"There is no token {wrong[1]}; this model's ids are 0 to {size - 1}.", param=place)


def _plain(index: int, answer: Answer) -> t.TextChoice:
    return t.TextChoice(
        index=index, text=answer.text, finish_reason=answer.finish_reason, logprobs=answer.logprobs, stop=answer.stop
    )


def _best(answers: tuple[Answer, ...], keep: int) -> list[Answer]:
    """The ``keep`` answers with the highest mean log probability a token, likeliest first; all of them as they are."""
    if keep == len(answers):
        return list(answers)
    return sorted(answers, key=lambda answer: answer.mean_logprob, reverse=True)[:keep]


def _usage(generation: Generation, *, reasoning_tokens: int) -> t.Usage:
    return t.Usage(
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=sum(len(answer.tokens) for group in generation.answers for answer in group),
        cached_tokens=generation.cached_tokens,
        reasoning_tokens=reasoning_tokens,
    )
