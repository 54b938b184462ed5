"""Fused layers say what the ordinary ones say, for every kind of model that is fused, and nothing of a neighbour."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from handlers.decoding import attention
from handlers.decoding.cache import KeyValueCache, LayerShape
from handlers.decoding.forward import Forward
from handlers.decoding.kernels.llama import fuse
from handlers.decoding.kernels.native import Kernels, Matrix
from handlers.decoding.kernels.weights import pack_model
from handlers.decoding.scheduler import Chunk
from handlers.types import ModelSpec

LAYERS, KEY_HEADS, HEAD, BLOCK = 3, 2, 32, 4
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 144,
    "intermediate_size": 200,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 6,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": HEAD,
    "max_position_embeddings": 256,
}
MODELS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True}),
    "llama tied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 7}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"num_attention_heads": 4, "hidden_size": 128}),
    "qwen2 sliding": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"num_attention_heads": 4, "hidden_size": 128, "sliding_window": 7, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
}


def fused(name: str, kernels: Kernels, dtype: torch.dtype = torch.float32) -> Any:
    config, cls, changes = MODELS[name]
    torch.manual_seed(1)
    attention.register()
    model = cls(config(**{**SIZES, **changes}))
    for parameter in model.parameters():  # norms and biases that are one and nought would hide mistakes
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.1)
    model = model.to(dtype).eval()
    model.set_attn_implementation(attention.NAME)
    options = {"weights": "int8"}
    packed = pack_model(model, ModelSpec(id=name, path="", kind="transformer", options=options), lambda *_: None)
    assert packed is not None
    assert "forward" in vars(model)
    packed.kernels.use_threads(2)
    return model


class Conversation:
    """A prompt in pieces beside another sequence, through ``Forward`` as the engine uses it."""

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32) -> None:
        shapes = dict.fromkeys(range(LAYERS), LayerShape(KEY_HEADS, HEAD, HEAD))
        cache = KeyValueCache(shapes, blocks=40, block_size=BLOCK, dtype=dtype, device="cpu")
        self.forward = Forward(model, cache)

    @staticmethod
    def sequence(order: int, length: int) -> Any:
        ids = torch.randint(320, (length,), generator=torch.Generator().manual_seed(order)).tolist()
        blocks = [1 + order + 3 * place for place in reversed(range(10))]
        return SimpleNamespace(embedded=None, order=order, ids=ids, blocks=blocks, scoring=False)

    @torch.inference_mode()
    def last_logits(self, *, company: bool) -> torch.Tensor:
        one, other, third = (self.sequence(order, length) for order, length in ((0, 30), (1, 9), (2, 20)))
        steps = [
            [Chunk(one, 0, 20), Chunk(other, 0, 8)],
            [Chunk(one, 20, 9), Chunk(other, 8, 1), Chunk(third, 0, 19)],
            [Chunk(one, 29, 1), Chunk(third, 19, 1)],
        ]
        for step in steps:
            found = self.forward.run(step if company else step[:1])
        return found.rows[found.of[0].start]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_layers_say_what_the_ordinary_ones_say(kernels: Kernels, name: str, dtype: torch.dtype) -> None:
    model = fused(name, kernels, dtype)
    native = Conversation(model, dtype).last_logits(company=True)
    del model.forward
    ordinary = Conversation(model, dtype).last_logits(company=True)
    assert (native - ordinary).norm() < (0.02 if dtype == torch.float32 else 0.05) * ordinary.norm()
    assert native.argmax() == ordinary.argmax() or dtype == torch.bfloat16


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_is_bit_for_bit_the_same_alone_and_in_company(kernels: Kernels, name: str) -> None:
    model = fused(name, kernels)
    together = Conversation(model).last_logits(company=True)
    assert torch.equal(together, Conversation(model).last_logits(company=False))


def test_threads_change_no_bit(kernels: Kernels) -> None:
    model = fused("llama", kernels)
    expected = Conversation(model).last_logits(company=True)
    assert all(torch.equal(Conversation(model).last_logits(company=True), expected) for _ in range(30))


def test_a_model_of_another_kind_is_not_fused(kernels: Kernels) -> None:
    config, cls, _ = MODELS["llama"]
    odd = cls(config(**SIZES | {"hidden_act": "gelu"}))
    assert not fuse(odd, kernels, {})
    assert not fuse(SimpleNamespace(), kernels, dict[str, Matrix]())
