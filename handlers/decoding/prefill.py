"""Running a prompt once, in chunks: between chunks a request can be cancelled, and several answers share the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers.decoding.logprobs import Scored, score
from handlers.types import RunContext

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 512
SCORED_CHUNK = 64
_TRIED = 24
_TOLERANCE = 5e-2


def can_prefill(model: Any) -> bool:
    """Whether the model keeps its past in transformers' standard cache, as keys and values and nothing else."""
    if model._is_stateful or model.config.is_encoder_decoder or not model._supports_default_dynamic_cache():
        return False
    return all(hasattr(layer, "batch_repeat_interleave") for layer in _empty_cache(model).layers)


def same_in_pieces(model: Any) -> bool:
    """Whether a prompt run in two pieces ends as the same run whole: not where its tokens see one another both ways."""
    import torch

    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(size, (1, _TRIED), generator=torch.Generator().manual_seed(0)).to(model.device)
    with torch.inference_mode():
        whole = _forward(model, ids, 0, _TRIED, None)[-1]
        cache = _empty_cache(model)
        _forward(model, ids, 0, _TRIED // 2, cache)
        pieced = _forward(model, ids, _TRIED // 2, _TRIED, cache)[-1]
    return bool((whole - pieced).norm() <= _TOLERANCE * whole.norm())


def prefill(model: Any, ids: Tensor, ctx: RunContext) -> Any:
    """The cache after all of ``ids`` (``[1, T]``, T > 1) but the last token."""
    cache = _empty_cache(model)
    last = {"logits_to_keep": 1} if model._supports_logits_to_keep() else {}
    for start in range(0, ids.shape[1] - 1, CHUNK):
        ctx.check()
        _forward(model, ids, start, min(start + CHUNK, ids.shape[1] - 1), cache, **last)
    return cache


def score_prompt(model: Any, ids: Tensor, alternatives: int, ctx: RunContext) -> list[Scored]:
    """The log probability of each token of the prompt ``ids`` (``[1, T]``); the first has none."""
    tokens: list[int] = ids[0].tolist()
    scored = [Scored(tokens[0], None)]
    whole = not can_prefill(model)
    cache = None if whole else _empty_cache(model)
    step = len(tokens) if whole else SCORED_CHUNK
    for start in range(0, len(tokens) - 1, step):
        ctx.check()
        stop = min(start + step, len(tokens) - 1)
        logits = _forward(model, ids, start, stop, cache)
        scored += score(logits, tokens[start + 1 : stop + 1], alternatives)
    return scored


def _empty_cache(model: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def _forward(model: Any, ids: Tensor, start: int, stop: int, cache: Any, **options: int) -> Tensor:
    import torch

    past = {} if cache is None else {"past_key_values": cache, "attention_mask": torch.ones_like(ids[:, :stop])}
    output = model(input_ids=ids[:, start:stop], use_cache=cache is not None, **past, **options)
    return output.logits[0].float()
