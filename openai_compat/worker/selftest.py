"""A tiny request through each cheap verb, so that a worker that says it is ready has answered once."""

from __future__ import annotations

import logging
import math
from typing import Any

from handlers.base import BaseHandler
from handlers.deferred import complete
from handlers.types import (
    ClassifyRequest,
    ClassifyResult,
    Delta,
    EmbedRequest,
    EmbedResult,
    LoadReport,
    RankRequest,
    RankResult,
    Request,
    Result,
    Sampling,
    TextRequest,
    TextResult,
    Usage,
    Verb,
)
from openai_compat.errors import ModelUnavailable

logger = logging.getLogger(__name__)

PROBES: dict[Verb, Request] = {
    "generate_text": TextRequest(prompts=("Hi",), sampling=Sampling(max_tokens=1, temperature=0.0)),
    "embed_text": EmbedRequest(texts=("Hi",)),
    "rank_text": RankRequest(query="Hi", documents=("Hi",)),
    "classify_text": ClassifyRequest(texts=("Hi",)),
}


class _Silent:
    """A ``handlers.types.RunContext`` that nobody listens to."""

    def emit(self, delta: Delta) -> None: ...

    def check(self) -> None: ...

    def spend(self, usage: Usage) -> None: ...


def load_and_test(handler: BaseHandler, report: LoadReport) -> None:
    """For the model's own thread, since CUDA graphs and some libraries keep state by thread."""
    handler.load_model(report)
    report("self-test")
    self_test(handler)


def self_test(handler: BaseHandler) -> None:
    """Run the probes on the calling thread. Raises ``ModelUnavailable`` where an answer is missing or makes no sense."""
    capabilities = type(handler).get_model_capabilities(handler.spec)
    for verb, probe in PROBES.items():
        if verb in capabilities:
            _probe(handler, verb, probe)


def _probe(handler: BaseHandler, verb: Verb, probe: Any) -> None:
    try:
        request = handler.apply_mode_settings(probe)
        handler.validate_inputs(request)
        sound = _is_sound(complete(getattr(handler, verb)(request, _Silent())))
    except Exception as error:
        logger.error("the self-test of %s failed", verb, exc_info=error)
        raise ModelUnavailable("The model failed its self-test.") from error
    if not sound:
        raise ModelUnavailable("The model failed its self-test: its answer makes no sense.")


def _is_sound(result: Result) -> bool:
    if isinstance(result, TextResult):
        return bool(result.choices) and result.usage.completion_tokens >= 0
    if isinstance(result, EmbedResult):
        vectors = [memoryview(vector).cast("f") for vector in result.vectors]
        return bool(vectors) and all(vector.nbytes and all(map(math.isfinite, vector)) for vector in vectors)
    if isinstance(result, ClassifyResult):
        return all(verdict.labels and all(map(math.isfinite, verdict.labels.values())) for verdict in result.verdicts)
    if isinstance(result, RankResult):
        return bool(result.scores) and all(map(math.isfinite, result.scores))
    return False
