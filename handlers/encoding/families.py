"""Which role a checkpoint has, by its configuration alone: reads texts, pictures or both into vectors, or ranks texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from handlers.analyze import read_json
from handlers.headers import BadHeader
from handlers.types import Verb
from openai_compat.errors import ModelUnavailable

Role: TypeAlias = Literal["text", "rank", "classify", "towers", "text_tower", "image_tower"]
VERBS: Mapping[Role, frozenset[Verb]] = {
    "text": frozenset({"embed_text", "tokenize_text"}),
    "rank": frozenset({"rank_text", "tokenize_text"}),
    "classify": frozenset({"classify_text", "tokenize_text"}),
    "towers": frozenset({"embed_text", "embed_image", "embed_multimodal", "tokenize_text"}),
    "text_tower": frozenset({"embed_text", "tokenize_text"}),
    "image_tower": frozenset({"embed_image"}),
}
TOWERS: Mapping[str, Role] = {
    "CLIPModel": "towers",
    "CLIPTextModelWithProjection": "text_tower",
    "CLIPVisionModelWithProjection": "image_tower",
    "SiglipModel": "towers",
    "SiglipTextModel": "text_tower",
    "SiglipVisionModel": "image_tower",
}
ENCODERS = frozenset(
    {
        "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "eurobert",
        "jina_embeddings_v3", "megatron-bert", "mobilebert", "modernbert", "mpnet", "nomic_bert", "rembert", "roberta",
        "roberta-prelayernorm", "squeezebert", "t5", "mt5", "xlm-roberta", "xlm-roberta-xl",
    }
)  # fmt: skip
DECODERS = frozenset({"gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3"})
_MOST_LABELS = 10_000
_WHOLE = ("Model", "ForMaskedLM")
_JUDGE = "ForSequenceClassification"


def role_of(path: str) -> Role | None:
    """The role of the snapshot in the folder ``path``; None where it is nothing that reads texts or pictures whole."""
    root = Path(path)
    try:
        config = read_json(root / "config.json")
    except BadHeader:
        return None
    architecture, kind = _architecture(config), str(config.get("model_type"))
    if architecture in TOWERS:
        return TOWERS[architecture]
    if kind not in ENCODERS | DECODERS:
        return None
    if architecture.endswith(_JUDGE):
        return _judging(config)
    made_for_it = (root / "modules.json").is_file()
    return "text" if made_for_it or architecture.endswith(_WHOLE) else None


def is_decoder(config_type: str) -> bool:
    """Whether a token sees only those before it, so that the last one alone has read the text."""
    return config_type in DECODERS


def labels_of(root: Path) -> tuple[str, ...]:
    """What a classifier in the folder ``root`` calls its outputs. Raises ``ModelUnavailable``."""
    try:
        config = read_json(root / "config.json")
    except BadHeader as error:
        raise ModelUnavailable("The model's config.json cannot be read.") from error
    names, number = config.get("id2label"), _labels(config)
    if number > _MOST_LABELS:
        raise ModelUnavailable(f"The model has {number} labels, which are more than {_MOST_LABELS}.", retry=False)
    if not isinstance(names, dict):
        return tuple(f"LABEL_{i}" for i in range(number))
    return tuple(str(names.get(str(i), f"LABEL_{i}")) for i in range(number))


def _judging(config: dict[str, Any]) -> Role | None:
    """One label is a relevance, unless it was trained as one of several that a text may have; numbers are no labels."""
    kind = config.get("problem_type")
    if _labels(config) == 1 and kind != "multi_label_classification":
        return "rank"
    return None if kind == "regression" else "classify"


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _labels(config: dict[str, Any]) -> int:
    labels = config.get("id2label")
    number = config.get("num_labels")
    return len(labels) if isinstance(labels, dict) else number if isinstance(number, int) else 2
