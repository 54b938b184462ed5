"""A seeded answer is the same to the last bit alone and among 31 others, in every format of fused layers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from transformers import LlamaConfig

from handlers.decoding.kernels import weights
from handlers.decoding.kernels.native import Kernels

WIDE = {
    "vocab_size": 400,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
}
SEEDED = {"temperature": 1.3, "top_p": 0.95, "seed": 11, "max_tokens": 30, "logprobs": 3}
SPECS: list[dict[str, Any]] = [
    {"options": {"weights": "int4"}},
    {"options": {"weights": "int8"}},
    {"options": {"weights": "bf16"}},
    {"dtype": "bfloat16"},
]


def prompts() -> list[tuple[int, ...]]:
    source = random.Random(0)
    return [tuple(source.randrange(3, 400) for _ in range(length)) for length in (12, *range(3, 34))]


def answered(engine: Any, *asked: Any) -> list[tuple[int, float, tuple[Any, ...]]]:
    """Tokens and log probabilities of the first, once all are answered."""
    while any(one.poll() is None for one in asked):
        engine.step()
    (group,) = asked[0].poll().answers
    return [(token, known.logprob, known.top) for token, known in zip(group[0].tokens, group[0].logprobs, strict=True)]


@pytest.mark.parametrize("changes", SPECS, ids=["int4", "int8", "bf16", "dtype bfloat16"])
def test_a_seeded_answer_is_the_same_alone_and_among_31_others(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, builder: Callable[..., Any], collector: Any, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(weights, "WORTHWHILE", 0)
    model = builder(LlamaConfig(**WIDE), threads=2, **changes)
    assert model.handler._lm.fused
    engine, (one, *others) = model.handler._engine, prompts()
    alone = answered(engine, model.submit(one, collector(), salt="alone", **SEEDED))
    crowd = [model.submit(ids, collector(), temperature=0.7, seed=i, max_tokens=5 + i) for i, ids in enumerate(others)]
    beside = answered(engine, model.submit(one, collector(), salt="beside", **SEEDED), *crowd)
    assert beside == alone
    assert len({token for token, _, _ in alone}) > 5
