"""Handlers, loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from handlers import types as t
from handlers.classifier import ClassifierHandler
from handlers.embedding import EmbeddingHandler
from handlers.janus import JanusHandler
from handlers.multimodal import MultimodalHandler
from handlers.transformer import TransformerHandler
from handlers.vision import VisionHandler


class Collector:
    """A run context that keeps what is emitted, and may refuse to go on after some steps."""

    def __init__(self, *, checks: int | None = None, emits: int | None = None, error: type[Exception] = KeyError) -> None:
        self.deltas: list[t.Delta] = []
        self.spent = t.Usage()
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

    def spend(self, usage: t.Usage) -> None:
        self.spent = usage

    def text(self, index: int = 0) -> str:
        return "".join(d.text for d in self.deltas if isinstance(d, t.TextDelta) and d.index == index)


def load(folder: Path, **changes: object) -> TransformerHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="transformer", **{"device": "cpu", "threads": 1, **changes})
    handler = TransformerHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def snapshot(tiny_llama: Path) -> Path:
    return tiny_llama


@pytest.fixture(scope="session")
def base_snapshot(tmp_path_factory: pytest.TempPathFactory, saver: Callable[..., Path]) -> Path:
    return saver(tmp_path_factory.mktemp("tiny-base"), template=None)


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
def smollm2(smollm2_folder: Path) -> TransformerHandler:
    """The real model, as it is served."""
    return load(smollm2_folder, context_length=None)


@pytest.fixture(scope="session")
def tiny_llava(tiny_mixed: Callable[..., Path]) -> MultimodalHandler:
    handler = MultimodalHandler(
        t.ModelSpec(id="tiny", path=str(tiny_mixed("llava")), kind="multimodal", device="cpu", threads=1)
    )
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def tiny_janus(tiny_mixed: Callable[..., Path]) -> JanusHandler:
    handler = JanusHandler(t.ModelSpec(id="tiny", path=str(tiny_mixed("janus")), kind="janus", device="cpu", threads=1))
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


# ---------------------------------------------------------------- encoders

SENTENCES = ("the fox", "The quick brown fox jumps over the lazy dog.", "hello world, hello there!", "a lazy world")
_MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SMALL = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "initializer_range": 0.4,
}
_OWN: dict[str, dict[str, object]] = {
    "albert": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "global_attn_every_n_layers": 2, "local_attention": 8},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "t5": {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4},
}
_MODELS = {"t5": "T5EncoderModel"}


def save_tiny_tokenizer(folder: Path, *, end_only: bool = False) -> None:
    """Word pieces; a text stands between [CLS] and [SEP], or has [SEP] behind it alone."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=_SMALL["vocab_size"], special_tokens=_MARKS, show_progress=False)
    tokenizer.train_from_iterator([*SENTENCES, "query: passage: search [0]"] * 20, trainer)
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    single, pair = ("$A [SEP]", None) if end_only else ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=marks)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _MARKS, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[SEP]", model_input_names=inputs, **names)
    fast.save_pretrained(folder)


def save_tiny_encoder(folder: Path, family: str = "bert", *, head: str = "", seed: int = 0, **changes: object) -> Path:
    """A model of any family with random weights; ``head`` is the class to be saved where it is not the plain model."""
    import torch
    import transformers
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**_SMALL, **_OWN.get(family, {}), **changes})
    name = head or _MODELS.get(family)
    model = getattr(transformers, name)(config) if name else AutoModel.from_config(config)
    model.eval().save_pretrained(folder)
    save_tiny_tokenizer(folder, end_only=family == "qwen3")
    return folder


def save_tiny_towers(folder: Path, family: str = "clip", *, head: str = "", seed: int = 0) -> Path:
    """CLIP or SigLIP, whole, or one side of it: ``CLIPTextModelWithProjection`` and the like."""
    import torch
    import transformers

    torch.manual_seed(seed)
    text = {**_SMALL, "max_position_embeddings": 24, "projection_dim": 16, "projection_size": 32}
    vision = {**_SMALL, "image_size": 32, "patch_size": 8, "projection_dim": 16}
    prefix = {"clip": "CLIP", "siglip": "Siglip"}[family]
    whole = getattr(transformers, f"{prefix}Config")(text_config=text, vision_config=vision, projection_dim=16)
    name = head or f"{prefix}Model"
    config = whole.text_config if "Text" in name else whole.vision_config if "Vision" in name else whole
    getattr(transformers, name)(config).eval().save_pretrained(folder)
    if "Text" not in name:
        sides = {"height": 32, "width": 32}
        size = {"shortest_edge": 32} if family == "clip" else sides
        cropped = {"crop_size": sides} if family == "clip" else {}
        getattr(transformers, f"{prefix}ImageProcessorPil")(size=size, **cropped).save_pretrained(folder)
    if "Vision" not in name:
        save_tiny_tokenizer(folder)
    return folder


def load_embedding(folder: Path, **changes: object) -> EmbeddingHandler:
    spec = t.ModelSpec(
        id="tiny", path=str(folder), kind="embedding", **{"device": "cpu", "threads": 1, "dtype": "float32", **changes}
    )
    handler = EmbeddingHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def encoder_saver() -> Callable[..., Path]:
    return save_tiny_encoder


@pytest.fixture(scope="session")
def tower_saver() -> Callable[..., Path]:
    return save_tiny_towers


@pytest.fixture(scope="session")
def embedding_loader() -> Callable[..., EmbeddingHandler]:
    return load_embedding


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    return SENTENCES


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingHandler:
    return load_embedding(save_tiny_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingHandler:
    return load_embedding(save_tiny_towers(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="session")
def tiny_ranker(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingHandler:
    folder = tmp_path_factory.mktemp("ranker")
    return load_embedding(save_tiny_encoder(folder, head="BertForSequenceClassification", num_labels=1))


def load_classifier(folder: Path, **changes: object) -> ClassifierHandler:
    settings = {"device": "cpu", "threads": 1, "dtype": "float32", **changes}
    handler = ClassifierHandler(t.ModelSpec(id="tiny", path=str(folder), kind="classifier", **settings))
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def classifier_loader() -> Callable[..., ClassifierHandler]:
    return load_classifier


@pytest.fixture(scope="session")
def tiny_judge(tmp_path_factory: pytest.TempPathFactory) -> ClassifierHandler:
    """Scores three labels, each by itself."""
    names = {0: "toxic", 1: "threat", 2: "approval"}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    folder = tmp_path_factory.mktemp("judge")
    kind = "multi_label_classification"
    return load_classifier(save_tiny_encoder(folder, head="BertForSequenceClassification", problem_type=kind, **labels))


@pytest.fixture(scope="session")
def tiny_classifier(tiny_seer: Callable[[str], Path]) -> VisionHandler:
    handler = VisionHandler(t.ModelSpec(id="tiny", path=str(tiny_seer("vit")), kind="vision", device="cpu", threads=1))
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler
