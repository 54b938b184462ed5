"""Which role a checkpoint has, by its configuration alone: reads texts, pictures or both into vectors, or ranks texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from handlers.analyze import read_json
from handlers.headers import BadHeader
from handlers.types import Verb

Role: TypeAlias = Literal["text", "rank", "towers", "text_tower", "image_tower"]
VERBS: Mapping[Role, frozenset[Verb]] = {
    "text": frozenset({"embed_text", "tokenize_text"}),
    "rank": frozenset({"rank_text", "tokenize_text"}),
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
_WHOLE = ("Model", "ForMaskedLM")
_RANKER = "ForSequenceClassification"


def role_of(path: str) -> Role | None:
    """The role of the snapshot in the folder ``path``; None where it is no embedding model."""
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
    if architecture.endswith(_RANKER):
        return "rank" if _labels(config) == 1 else None
    made_for_it = (root / "modules.json").is_file()
    return "text" if made_for_it or architecture.endswith(_WHOLE) else None


def is_decoder(config_type: str) -> bool:
    """Whether a token sees only those before it, so that the last one alone has read the text."""
    return config_type in DECODERS


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _labels(config: dict[str, Any]) -> int:
    labels = config.get("id2label")
    number = config.get("num_labels")
    return len(labels) if isinstance(labels, dict) else number if isinstance(number, int) else 2
