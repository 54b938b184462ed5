"""A model that mixes its neighbours is found out, whatever it mixes them by."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import transformers

from handlers import types as t
from handlers.decoding import attention
from handlers.decoding.engine import Engine
from handlers.decoding.probe import probe
from handlers.decoding.rotary import packs_up_to
from handlers.transformer import TransformerHandler
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


# ---------------------------------------------------------------- positions that hang on the longest sequence


LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "long_factor": [4.0] * 4, "short_factor": [1.0] * 4}


def phi(saver, builder, context: int | None):
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"max_position_embeddings": 96, "original_max_position_embeddings": 48}
    config = transformers.Phi3Config(
        **sizes, rope_parameters=dict(LONGROPE), pad_token_id=0, initializer_range=0.4, eos_token_id=2
    )
    return builder(config, context_length=context)


@pytest.mark.parametrize(("context", "packed"), [(None, False), (49, False), (48, True)])
def test_a_model_whose_positions_long_prompts_change_is_packed_only_for_short_ones(
    saver, builder, collector, tokens, context: int | None, packed: bool
) -> None:
    model = phi(saver, builder, context)
    engine = model.handler._engine
    assert isinstance(engine, Engine) is packed
    told = TransformerHandler.analyze(t.ModelSpec(id="m", path=str(model.folder), kind="transformer", context_length=context))
    assert told.path == ("engine" if packed else "generate")
    short, long = tuple(range(3, 9)), tuple(range(20, 20 + (30 if packed else 44)))
    asked = [model.submit(ids, collector(), max_tokens=5) for ids in (short, long)]
    while any(one.poll() is None for one in asked):
        engine.step()
    assert [tokens(one) for one in asked] == [model.expected(ids, 5) for ids in (short, long)]


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"rope_parameters": {"rope_type": "default"}}, None),
        ({"rope_scaling": None}, None),
        ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 9}}, None),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 2048),
        ({"rope_parameters": {"full": {"rope_type": "longrope", "original_max_position_embeddings": 8}, "local": {}}}, 8),
        ({"rope_scaling": {"rope_type": "longrope"}}, 0),
    ],
)
def test_configurations_say_up_to_which_length_it_may_be_packed(config: dict, most: int | None) -> None:
    assert packs_up_to(config) == most
