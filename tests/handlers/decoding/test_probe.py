"""A model that mixes its neighbours is found out, whatever it mixes them by."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import transformers

from handlers.decoding import attention
from handlers.decoding.engine import Engine
from handlers.decoding.probe import probe
from openai_compat.errors import ModelUnavailable


@pytest.fixture
def llama():
    torch.manual_seed(0)
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, initializer_range=0.4)).eval()


def test_a_sound_model_is_set_for_packing_and_its_layers_are_known(llama) -> None:
    verdict = probe(llama)
    assert verdict.reason is None
    assert llama.config._attn_implementation == attention.NAME
    assert {layer: (shape.heads, shape.key_size) for layer, shape in verdict.shapes.items()} == {0: (4, 8), 1: (4, 8)}


def test_half_types_pass_by_their_own_measure(llama) -> None:
    assert probe(llama.to(torch.bfloat16)).reason is None


def test_a_neighbour_that_comes_in_between_two_layers_is_seen(llama) -> None:
    before = llama.config._attn_implementation

    def shift(layer, inputs, output):
        return output + output.roll(1, dims=1) * 0.01

    llama.model.layers[0].register_forward_hook(shift)
    assert probe(llama).reason == "packed sequences differ from the same run apart"
    assert llama.config._attn_implementation == before


def test_what_is_carried_from_step_to_step_is_seen(llama) -> None:
    carried = [torch.zeros(32)]

    def carry(layer, inputs, output):
        output = output + carried[0] * 0.1
        carried[0] = output[0, -1]
        return output

    llama.model.layers[1].register_forward_hook(carry)
    assert probe(llama).reason is not None


def test_a_layer_that_attends_by_itself_is_seen(llama) -> None:
    own = llama.model.layers[1].self_attn
    own.config = transformers.LlamaConfig(**own.config.to_dict())
    own.config._attn_implementation = "eager"
    llama.set_attn_implementation = lambda name: setattr(llama.config, "_attn_implementation", name)
    assert probe(llama).reason is not None


def test_a_layer_that_forgets_the_block_table_is_seen(llama) -> None:
    own = llama.model.layers[1].self_attn
    forward = own.forward
    own.forward = lambda *args, paged=None, **options: forward(*args, **options)
    assert "cannot be run packed" in str(probe(llama).reason)


def test_the_log_says_how_a_model_is_served(snapshot: Path, loader, family, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="handlers.decoding.serving"):
        loader(snapshot)
        loader(family("stablelm").folder)
    assert "served by the engine, in batches of up to 64" in caplog.messages[0]
    assert "served by generate, each request by itself: " in caplog.messages[1]


def test_the_operator_sizes_the_engine(snapshot: Path, loader) -> None:
    engine = loader(snapshot, options={"engine": {"cache_bytes": 1 << 20, "sequences": 3, "step_tokens": 9}})._engine
    assert isinstance(engine, Engine)
    stores = (*engine._cache.keys.values(), *engine._cache.values.values())
    held = sum(store.numel() * store.element_size() for store in stores)
    least = sum(store[0].numel() * store.element_size() for store in stores) * (1 + 96 // 16)
    assert least <= held <= max(least, 1 << 20)
    assert engine._scheduler._limits.step_tokens == 9


@pytest.mark.parametrize("engine", [{"sequence": 3}, {"step_tokens": 0}, {"cache_bytes": "much"}])
def test_sizes_that_make_no_sense_keep_the_model_from_loading(snapshot: Path, loader, engine: dict[str, object]) -> None:
    with pytest.raises(ModelUnavailable, match=r"options\.engine"):
        loader(snapshot, options={"engine": engine})
