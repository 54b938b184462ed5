"""Which checkpoints answer chats with pictures or sounds, by their configuration alone. Imports no heavy library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from handlers.analyze import read_json
from handlers.headers import BadHeader

Medium: TypeAlias = Literal["image", "audio"]
JANUS = "JanusForConditionalGeneration"
_SEES: frozenset[Medium] = frozenset({"image"})
_HEARS: frozenset[Medium] = frozenset({"audio"})

_SEEING = (
    "Aria",
    "AyaVision",
    "Cohere2Vision",
    "DeepseekVL",
    "Gemma3",
    "Glm46V",
    "Glm4v",
    "Idefics2",
    "Idefics3",
    "InternVL",
    "Janus",
    "Lfm2Vl",
    "LightOnOcr",
    "Llama4",
    "Llava",
    "LlavaNext",
    "LlavaOnevision",
    "Mistral3",
    "Mllama",
    "Ovis2",
    "PaliGemma",
    "PerceptionLM",
    "Qwen2VL",
    "Qwen2_5_VL",
    "Qwen3VL",
    "Qwen3VLMoe",
    "SmolVLM",
    "VipLlava",
)
_HEARING = ("Qwen2Audio",)
MEDIA: Mapping[str, frozenset[Medium]] = {
    **{f"{name}ForConditionalGeneration": _SEES for name in _SEEING},
    **{f"{name}ForConditionalGeneration": _HEARS for name in _HEARING},
}
"""By architecture: models whose chats take media as placeholders among the tokens, or by cross-attention."""
NEEDS: Mapping[str, tuple[str, ...]] = {
    "Cohere2VisionForConditionalGeneration": ("torchvision",),
    "Lfm2VlForConditionalGeneration": ("torchvision",),
    "Llama4ForConditionalGeneration": ("torchvision",),
    "Mistral3ForConditionalGeneration": ("torchvision",),
    "PerceptionLMForConditionalGeneration": ("torchvision",),
    "SmolVLMForConditionalGeneration": ("torchvision", "num2words"),
}
"""What the library's processors of some need beside PIL."""
_APART = frozenset(
    {
        "Gemma3ForConditionalGeneration",
        "MllamaForConditionalGeneration",
        "PaliGemmaForConditionalGeneration",
    }
)
"""Models whose pictures' tokens see one another both ways, or that keep pictures apart from the tokens."""


def is_apart(path: str) -> bool:
    """Whether requests with pictures are expected to run each by itself; the probe at load has the last word."""
    return architecture_of(path) in _APART


def architecture_of(path: str) -> str:
    """The architecture that the snapshot's configuration names first; empty where there is none."""
    try:
        config = read_json(Path(path, "config.json"))
    except BadHeader:
        return ""
    return first_architecture(config)


def first_architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def kind_of(path: str) -> Literal["multimodal", "janus"] | None:
    """The kind of handler that serves the snapshot; None where it is no such model."""
    name = architecture_of(path)
    if name == JANUS:
        return "janus"
    return "multimodal" if name in MEDIA else None
