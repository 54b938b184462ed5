"""Tiny models of many families, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import transformers
from transformers import PreTrainedConfig

from handlers import types as t
from handlers.decoding.decode_graphs import DecodeGraphs
from handlers.decoding.engine import Engine
from handlers.deferred import Deferred
from handlers.transformer import TransformerHandler

SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "eos_token_id": 2,
    "bos_token_id": None,
    "pad_token_id": 0,
    "initializer_range": 0.4,
}
WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
PACKED: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIZES, head_dim=8, **WINDOWS),
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, head_dim=8, query_pre_attn_scalar=8, **WINDOWS),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=8),
    "phi": lambda: transformers.PhiConfig(**SIZES),
    "phi3": lambda: transformers.Phi3Config(**SIZES),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=96, eos_token_id=2, initializer_range=0.4
    ),
    "mixtral": lambda: transformers.MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2),
    "qwen3-moe": lambda: transformers.Qwen3MoeConfig(
        **SIZES, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "gpt-oss": lambda: transformers.GptOssConfig(**SIZES, head_dim=8, num_local_experts=4, num_experts_per_tok=2, **WINDOWS),
    "olmo2": lambda: transformers.Olmo2Config(**SIZES),
}
ALONE: dict[str, Callable[[], PreTrainedConfig]] = {
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=8, eos_token_id=2, bos_token_id=None
    ),
    "lfm2": lambda: transformers.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]),
    "falcon": lambda: transformers.FalconConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, eos_token_id=2, bos_token_id=None
    ),
    "stablelm": lambda: transformers.StableLmConfig(**SIZES),
    "bloom": lambda: transformers.BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4, eos_token_id=2),
}
PROMPT = "The quick brown fox jumps over the lazy dog"


class Family:
    """One loaded model, and the library's own beside it."""

    def __init__(self, handler: TransformerHandler, folder: Path) -> None:
        self.handler = handler
        self.folder = folder
        self.plain = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
        self.plain.generation_config.eos_token_id = None

    def expected(self, ids: tuple[int, ...], count: int) -> list[int]:
        tensor = torch.tensor([ids])
        out = self.plain.generate(
            tensor,
            attention_mask=torch.ones_like(tensor),
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
        return out[0, len(ids) :].tolist()

    def submit(self, ids: t.Prompt, ctx, *, salt: str = "", **sampling) -> Deferred:
        """Raw tokens of the first answer, once it is there."""
        settings = t.Sampling(**{"temperature": 0.0, "max_tokens": 12, "ignore_eos": True, **sampling})
        request = t.TextRequest(prompts=(ids,), sampling=settings)
        return self.handler._engine.submit(
            self.handler.prepare_inputs(request),
            self.handler.get_generation_config(request),
            ctx,
            on_piece=lambda piece: None,
            on_end=lambda generation: generation,
            salt=salt,
        )


def build(config: PreTrainedConfig, folder: Path, saver, loader, **changes) -> Family:
    saver(folder)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return Family(loader(folder, **changes), folder)


@pytest.fixture(scope="session")
def builder(tmp_path_factory, saver, loader):
    """Make a model of a configuration and load it with some changes to its spec."""

    def make(config: PreTrainedConfig, **changes) -> Family:
        return build(config, tmp_path_factory.mktemp("built"), saver, loader, **changes)

    return make


@pytest.fixture(scope="session")
def family(tmp_path_factory, saver, loader):
    """A model by its family's name, made once."""
    made: dict[str, Family] = {}

    def get(name: str) -> Family:
        if name not in made:
            config = (PACKED | ALONE)[name]()
            made[name] = build(config, tmp_path_factory.mktemp(name), saver, loader)
        return made[name]

    return get


@pytest.fixture(scope="session")
def packed() -> Callable[[str], PreTrainedConfig]:
    """The configuration of a family that may be packed, by its name."""
    return lambda name: PACKED[name]()


@pytest.fixture
def reload(loader):
    """The same files, served with other settings of the engine."""

    def reload(model: Family, **engine: int) -> Family:
        return Family(loader(model.folder, options={"engine": engine}), model.folder)

    return reload


@pytest.fixture(params=["in step", "ahead"])
def ahead(request, monkeypatch) -> Iterator[bool]:
    """Each test twice: tokens are read in their step; or while the next one runs, whose decodes stand in fixed buffers.

    On a GPU those buffers are what a recording reads. Here it is the step itself that runs again.
    """
    step = Engine.step
    touched: set[Engine] = set()

    def in_that_way(engine: Engine) -> None:
        touched.add(engine)
        forward = engine._forward
        engine._ahead = request.param != "in step"
        if not engine._ahead:
            forward._graphs = None
        elif forward._graphs is None:
            forward._graphs = DecodeGraphs(forward._model, forward.cache, forward._layouts, lambda one: one)
        step(engine)

    monkeypatch.setattr(Engine, "step", in_that_way)
    yield request.param != "in step"
    for engine in touched:  # others use the same
        engine._ahead, engine._forward._graphs = False, None


def tokens(deferred: Deferred) -> list[int]:
    (group,) = deferred.poll().answers
    return list(group[0].tokens)


@pytest.fixture(name="tokens")
def tokens_fixture():
    return tokens
