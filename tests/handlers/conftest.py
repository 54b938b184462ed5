"""A tiny Llama with random weights and a real byte-level tokenizer, saved as a snapshot that the handler loads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers import types as t
from handlers.transformer import TransformerHandler

WORDS = ["Hello world, hello there!", "The quick brown fox jumps over the lazy dog.", "naïve café 😀 日本語 中文 emoji 🎉"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCAB = 400
CONTEXT = 96


class Collector:
    """A run context that keeps what is emitted, and may refuse to go on after some steps."""

    def __init__(self, *, checks: int | None = None, emits: int | None = None, error: type[Exception] = KeyError) -> None:
        self.deltas: list[t.Delta] = []
        self.checks = 0
        self._most_checks = checks
        self._most_emits = emits
        self._error = error

    def emit(self, delta: t.Delta) -> None:
        self.deltas.append(delta)
        if self._most_emits is not None and len(self.deltas) >= self._most_emits:
            raise self._error

    def check(self) -> None:
        self.checks += 1
        if self._most_checks is not None and self.checks > self._most_checks:
            raise self._error

    def text(self, index: int = 0) -> str:
        return "".join(d.text for d in self.deltas if isinstance(d, t.TextDelta) and d.index == index)


def save_tiny_llama(folder: Path, *, template: str | None = TEMPLATE, dtype: str = "float32") -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(WORDS * 50, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
        eos_token_id=2,
        bos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def load(folder: Path, **changes: object) -> TransformerHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="transformer", **{"device": "cpu", "threads": 1, **changes})
    handler = TransformerHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def base_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny-base"), template=None)


@pytest.fixture(scope="session")
def tiny(snapshot: Path) -> TransformerHandler:
    return load(snapshot)


@pytest.fixture(scope="session")
def base(base_snapshot: Path) -> TransformerHandler:
    """The same model without a chat template."""
    return load(base_snapshot)


@pytest.fixture
def collector() -> Callable[..., Collector]:
    return Collector


@pytest.fixture(scope="session")
def loader() -> Callable[..., TransformerHandler]:
    return load


@pytest.fixture(scope="session")
def saver() -> Callable[..., Path]:
    return save_tiny_llama


@pytest.fixture(scope="session")
def smollm2() -> TransformerHandler:
    """The real model, where its converted snapshot is at hand."""
    folder = os.environ.get("OPENAI_COMPAT_TEST_MODEL")
    if not folder:
        pytest.skip("OPENAI_COMPAT_TEST_MODEL does not name a snapshot")
    return load(Path(folder), context_length=None)
