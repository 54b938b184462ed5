"""Which layers are packed, into what, and when not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from handlers.decoding.kernels import weights
from handlers.decoding.kernels.compiler import NotBuilt
from handlers.decoding.kernels.native import Kernels
from handlers.decoding.kernels.weights import pack_model
from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable


def silent(stage: str, done: int = 0, total: int = 0) -> None:
    """A report that nobody reads."""


def spec(wanted: str = "auto", **fields: Any) -> ModelSpec:
    return ModelSpec(id="tiny", path="", kind="transformer", options={"weights": wanted}, **fields)


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=128, n_layer=2, n_head=4, n_positions=64)).eval()


@pytest.mark.parametrize("make", [llama, gpt2])
@torch.inference_mode()
def test_a_packed_model_says_nearly_the_same(kernels: Kernels, make: Any) -> None:
    ids = torch.arange(1, 33)[None]
    model = make()
    exact = model(input_ids=ids).logits
    packed = pack_model(model, spec("int8"), silent)
    assert packed is not None
    assert all(matrix.bits == 8 for matrix in packed.matrices.values())
    close = model(input_ids=ids).logits
    assert 0 < (close - exact).norm() / exact.norm() < 0.03


@torch.inference_mode()
def test_a_sequence_alone_equals_itself_in_a_batch(kernels: Kernels) -> None:
    model = llama()
    assert pack_model(model, spec("int8"), silent) is not None
    hidden = torch.randn(7, 128)
    layer = model.model.layers[0].mlp.gate_proj
    assert torch.equal(layer(hidden)[3], layer(hidden[3:4])[0])


def test_four_bits_keep_the_head_in_eight(kernels: Kernels) -> None:
    packed = pack_model(llama(), spec("int4"), silent)
    assert packed is not None
    assert {name: matrix.bits for name, matrix in packed.matrices.items() if matrix.bits == 8} == {
        "lm_head": packed.matrices["lm_head"].bits
    }


def test_a_small_model_and_a_chosen_dtype_are_left_alone() -> None:
    model = llama()
    assert pack_model(model, spec(), silent) is None
    assert pack_model(model, spec("dtype"), silent) is None
    assert pack_model(model, spec(dtype="float32"), silent) is None
    assert pack_model(model, spec(dtype="bfloat16"), silent) is None
    assert model.lm_head.weight.device.type == "cpu"


@torch.inference_mode()
def test_a_chosen_bfloat16_keeps_the_weights_and_computes_in_float32(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WORTHWHILE", 0)
    ids = torch.arange(1, 33)[None]
    model = llama().to(torch.bfloat16)
    exact = llama().to(torch.bfloat16).float()(input_ids=ids).logits
    packed = pack_model(model, spec(dtype="bfloat16"), silent)
    assert packed is not None
    assert {matrix.bits for matrix in packed.matrices.values()} == {16}
    layer = packed.matrices["model.layers.0.mlp.up_proj"]
    assert torch.equal(layer.dense(), llama().model.layers[0].mlp.up_proj.weight.bfloat16().float())
    assert (model(input_ids=ids).logits.float() - exact).norm() < 0.02 * exact.norm()


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="weights"):
        pack_model(llama(), spec("int3"), silent)


def test_without_kernels_the_model_is_served_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> None:
        raise NotBuilt("there is no C++ compiler")

    monkeypatch.setattr(weights, "library", none)
    monkeypatch.setattr(weights, "WORTHWHILE", 0)
    with caplog.at_level(logging.WARNING):
        assert pack_model(llama(), spec(), silent) is None
    assert [record.getMessage() for record in caplog.records] == [
        "'tiny' is served without fast kernels: several times slower, and a seeded answer may depend on its company "
        "(there is no C++ compiler)"
    ]
    with pytest.raises(ModelUnavailable, match="no C\\+\\+ compiler"):
        pack_model(llama(), spec("int8"), silent)


def test_weights_behind_a_packed_layer_cannot_be_read_by_mistake(kernels: Kernels) -> None:
    model = llama()
    pack_model(model, spec("int8"), silent)
    weight = model.model.layers[0].mlp.up_proj.weight
    assert weight.shape == (256, 128)
    assert weight.device.type == "meta"
