"""Which of the two ways a loaded model is served: packed with others if the probe allows it, else each request by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from handlers.causal_lm import CausalLM
from handlers.decoding import acceleration, sizing
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.engine import Engine
from handlers.decoding.generate_path import GeneratePath
from handlers.decoding.probe import Trial, probe
from handlers.decoding.ticket import TextEngine
from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable

logger = logging.getLogger(__name__)

SURE_BYTES = 4  # a number's size from which rounding by the batch's shape decides hardly any token


def create(spec: ModelSpec, lm: CausalLM, media: Iterable[Callable[[], Trial]] = ()) -> TextEngine:
    """Raises ``ModelUnavailable`` where ``options.engine`` cannot be used.

    Args:
        media: prompts to try, for a model that takes more than tokens.
    """
    options = _options(spec)
    verdict = probe(lm.model, media, lm.context_length)
    if verdict.reason is not None:
        logger.info("'%s' is served by generate, each request by itself: %s", spec.id, verdict.reason)
        return GeneratePath(lm.model, lm.vocabulary, vocab_size=lm.vocab_size)
    device = lm.model.device
    way = acceleration.find(lm.model, verdict, lm.context_length, options)
    size = way.block_size(options.block_size)
    blocks = sizing.blocks(options, verdict.shapes, lm.context_length, verdict.dtype, device, block_size=size)
    limits = sizing.limits(options, device)
    cache = KeyValueCache(verdict.shapes, blocks=blocks, block_size=size, dtype=verdict.dtype, device=device)
    logger.info(
        "'%s' is served by the engine, in batches of up to %d, with a cache of %d tokens%s",
        *(spec.id, limits.sequences, blocks * size, f", by {way}" if device.type == "cuda" else ""),
    )
    if verdict.dtype.itemsize < SURE_BYTES and not lm.fused:
        logger.info("'%s': seeded answers may change with their company, since %s rounds by the batch", spec.id, verdict.dtype)
    ahead = device.type == "cuda" if options.ahead is None else options.ahead
    forward = way.forward(lm.model, cache, lm.context_length)
    return Engine(forward, lm.vocabulary, vocab_size=lm.vocab_size, blocks=blocks, limits=limits, ahead=ahead)


def _options(spec: ModelSpec) -> sizing.EngineOptions:
    try:
        return msgspec.convert(spec.options.get("engine", {}), sizing.EngineOptions)
    except msgspec.ValidationError as error:
        raise ModelUnavailable(f"options.engine of '{spec.id}' cannot be used: {error}.") from error
