"""Models for all tests: a tiny Llama with random weights and a real byte-level tokenizer, and the real default models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from openai_compat.gateway.inspect import pull_models
from openai_compat.settings import load

WORDS = ["Hello world, hello there!", "The quick brown fox jumps over the lazy dog.", "naïve café 😀 日本語 中文 emoji 🎉"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCAB = 400
CONTEXT = 96


def save_tiny_llama(folder: Path, *, template: str | None = TEMPLATE, dtype: str = "float32", context: int = CONTEXT) -> Path:
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
        max_position_embeddings=context,
        initializer_range=0.4,
        eos_token_id=2,
        bos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def saver() -> Callable[..., Path]:
    return save_tiny_llama


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The default model as it is served, fetched on the first use on a machine."""
    return pulled("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The default encoder of texts."""
    return pulled("all-minilm-l6-v2")


@pytest.fixture(scope="session")
def whisper_base_folder() -> Path:
    """The default model that hears, in CTranslate2's format."""
    return pulled("whisper-base")


@pytest.fixture(scope="session")
def piper_joe_folder() -> Path:
    """The default voice."""
    return pulled("piper-joe")


def pulled(model_id: str) -> Path:
    """A default model's folder. Where it is neither here nor to be had the test is skipped, but never in CI."""
    (result,) = pull_models(load(None, {**os.environ, "OPENAI_COMPAT_CONFIG": os.devnull}), [model_id])
    if result.error and not os.environ.get("CI"):
        pytest.skip(result.error)
    assert not result.error, result.error
    return Path(result.path)
