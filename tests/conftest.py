"""Models for all tests: a tiny Llama with random weights and a real byte-level tokenizer, and the real default models."""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from openai_compat.gateway.inspect import pull_models
from openai_compat.gateway.sources.types import LocalSource, parse_source
from openai_compat.gateway.store import place
from openai_compat.settings import load

WORDS = ["Hello world, hello there!", "The quick brown fox jumps over the lazy dog.", "naïve café 😀 日本語 中文 emoji 🎉"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
JFK_PACKAGE = "nodejs-whisper@0.3.1"
JFK_MEMBER = "package/cpp/whisper.cpp/bindings/go/samples/jfk.wav"
JFK_SHA256 = "59dfb9a4acb36fe2a2affc14bacbee2920ff435cb13cc314a08c13f66ba7860e"
VOCAB = 400
CONTEXT = 96
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


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


@pytest.fixture(scope="session", autouse=True)
def no_results_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test's server has nothing to do with the keys and the results of one that this user really runs."""
    base = tmp_path_factory.mktemp("storage")
    usual = place._base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "_base", lambda config: usual(config) if config.server.cache_dir else base)
        yield


@pytest.fixture(scope="session")
def saver() -> Callable[..., Path]:
    return save_tiny_llama


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tiny_mixed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a tiny model of a family that sees or hears; each is made once."""
    save = runpy.run_path(str(Path(__file__).with_name("tiny_mixed.py")))["save"]

    @cache
    def make(family: str, **changes: object) -> Path:
        folder: Path = save(tmp_path_factory.mktemp(family), family, **changes)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_seer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model that sees, by its name in ``tiny_vision.py``; each is made once."""
    save = runpy.run_path(str(Path(__file__).with_name("tiny_vision.py")))["save"]

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        save(name, folder)
        return folder

    return make


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


@pytest.fixture(scope="session")
def bundled_folder() -> Callable[[str], Path]:
    """The folder of a model whose weights come with the package, by its name: ``bundled_folder("shapes-detector")``."""

    def folder(name: str) -> Path:
        source = parse_source(f"bundled:{name}")
        assert isinstance(source, LocalSource)
        return Path(source.path)

    return folder


@pytest.fixture(scope="session")
def jfk_wav() -> Path:
    """Eleven seconds of real speech, from a package of npm; kept beside the models."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "openai-compat", "recordings", "jfk.wav")
    if not cache.is_file():
        fetch_jfk(cache)
    assert hashlib.sha256(cache.read_bytes()).hexdigest() == JFK_SHA256
    return cache


def fetch_jfk(target: Path) -> None:
    """Skips the test where there is no npm, or no package index."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which fetches the recording, is not installed")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([npm, "pack", JFK_PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{JFK_PACKAGE} could not be fetched: {done.stderr[-200:]}")
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            member = archive.extractfile(JFK_MEMBER)
            assert member is not None
            recording = member.read()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}")
    part.write_bytes(recording)
    part.replace(target)


def pulled(model_id: str) -> Path:
    """A default model's folder. Where it is neither here nor to be had the test is skipped, but never in CI."""
    (result,) = pull_models(load(None, {**os.environ, "OPENAI_COMPAT_CONFIG": os.devnull}), [model_id])
    if result.error and not os.environ.get("CI"):
        pytest.skip(result.error)
    assert not result.error, result.error
    return Path(result.path)
