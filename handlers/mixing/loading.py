"""Loading a model that sees or hears, with its processor, from a local snapshot: safetensors, no code of the repository."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from handlers import types as t
from handlers.causal_lm import LOCAL, CausalLM, describe, read_model, template_of
from handlers.decoding.kernels.weights import is_asked_for
from handlers.loading import load_errors, require
from handlers.mixing.families import NEEDS, architecture_of
from handlers.mixing.processor import load_processor
from handlers.mixing.template import MediaTemplate
from openai_compat.errors import ModelUnavailable


class MixedLM(Struct, frozen=True, kw_only=True):
    """``lm`` is served as any language model; ``wishes`` is the generation configuration that the model came with."""

    lm: CausalLM
    processor: Any
    wishes: Any


def load(spec: t.ModelSpec, report: t.LoadReport) -> MixedLM:
    """Raises ``ModelUnavailable`` with a reason a client may read, ``InsufficientMemory`` where the device is full."""
    import transformers

    if is_asked_for(spec):
        raise ModelUnavailable(f"options.weights of '{spec.id}' is for models of text alone.")
    with load_errors(spec):
        report("reading the tokenizer")
        require(spec, NEEDS.get(architecture_of(spec.path), ()))
        config = transformers.AutoConfig.from_pretrained(spec.path, **LOCAL)
        processor = load_processor(spec.path, config, **LOCAL)
        tokenizer = processor.tokenizer
        template = template_of(processor.chat_template or tokenizer.chat_template, tokenizer, MediaTemplate)
        model = read_model(spec, getattr(transformers, architecture_of(spec.path)), config, report)
        wishes = model.generation_config
        return MixedLM(lm=describe(spec, model, tokenizer, template, report), processor=processor, wishes=wishes)
