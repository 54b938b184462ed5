"""Which backend serves which vision model: a table of the architectures that a configuration names."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct

from handlers.analyze import read_json
from handlers.headers import BadHeader
from handlers.types import VisionTask


class Family(Struct, frozen=True, kw_only=True):
    """Models that one backend serves.

    ``tasks``: the first is what the model was made for. ``auto_class`` is the class of transformers that loads it. With
    ``words`` it looks for whatever labels it is told, and so has a tokenizer; such a model is found by the registry only where
    ``detected``, since a CLIP is an embedding model unless the operator says otherwise. ``needs`` are packages that
    transformers uses for these architectures alone.
    """

    name: str
    tasks: tuple[VisionTask, ...]
    backend: str
    auto_class: str
    architectures: tuple[str, ...]
    words: bool = False
    detected: bool = True
    needs: tuple[str, ...] = ()


FAMILIES: tuple[Family, ...] = (
    Family(
        name="classification by any labels",
        tasks=("classify",),
        backend="handlers.seeing.zero_shot:LabelRanker",
        auto_class="AutoModelForZeroShotImageClassification",
        architectures=("CLIPModel", "SiglipModel", "Siglip2Model", "ChineseCLIPModel", "AltCLIPModel", "MetaClip2Model"),
        words=True,
        detected=False,
    ),
    Family(
        name="classification",
        tasks=("classify",),
        backend="handlers.seeing.classify:Classifier",
        auto_class="AutoModelForImageClassification",
        architectures=("*ForImageClassification", "*ForImageClassificationWithTeacher"),
    ),
    Family(
        name="detection of any labels",
        tasks=("detect",),
        backend="handlers.seeing.zero_shot:OpenDetector",
        auto_class="AutoModelForZeroShotObjectDetection",
        architectures=("OwlViTForObjectDetection",),
        words=True,
    ),
    Family(
        name="detection of any labels, by the second OWL-ViT",
        tasks=("detect",),
        backend="handlers.seeing.zero_shot:OpenDetector",
        auto_class="AutoModelForZeroShotObjectDetection",
        architectures=("Owlv2ForObjectDetection",),
        words=True,
        needs=("scipy",),
    ),
    Family(
        name="detection by phrases",
        tasks=("detect",),
        backend="handlers.seeing.zero_shot:PhraseDetector",
        auto_class="AutoModelForZeroShotObjectDetection",
        architectures=("GroundingDinoForObjectDetection", "MMGroundingDinoForObjectDetection"),
        words=True,
    ),
    Family(
        name="detection",
        tasks=("detect",),
        backend="handlers.seeing.detect:Detector",
        auto_class="AutoModelForObjectDetection",
        architectures=("*ForObjectDetection",),
    ),
    Family(
        name="segmentation by a detector",
        tasks=("segment", "detect"),
        backend="handlers.seeing.segment:DetectingSegmenter",
        auto_class="AutoModelForImageSegmentation",
        architectures=("DetrForSegmentation",),
    ),
    Family(
        name="segmentation by queries",
        tasks=("segment",),
        backend="handlers.seeing.segment:Segmenter",
        auto_class="AutoModelForUniversalSegmentation",
        architectures=("MaskFormerForInstanceSegmentation", "Mask2FormerForUniversalSegmentation"),
        needs=("scipy",),
    ),
    Family(
        name="semantic segmentation",
        tasks=("segment",),
        backend="handlers.seeing.segment:Segmenter",
        auto_class="AutoModelForSemanticSegmentation",
        architectures=("*ForSemanticSegmentation",),
    ),
    Family(
        name="depth",
        tasks=("depth",),
        backend="handlers.seeing.depth:DepthEstimator",
        auto_class="AutoModelForDepthEstimation",
        architectures=("*ForDepthEstimation",),
    ),
)


def family_of(path: str) -> Family | None:
    """The family of the model in the folder ``path``; None where it is no vision model, or cannot be read."""
    try:
        names = read_json(Path(path) / "config.json").get("architectures") if path else None
    except BadHeader:
        return None
    first = names[0] if isinstance(names, list) and names else None
    if not isinstance(first, str):
        return None
    return next((family for family in FAMILIES if any(fnmatchcase(first, name) for name in family.architectures)), None)


def is_vision(path: str) -> bool:
    """Whether the model in the folder ``path`` is one that a picture is looked at with, unless the operator says otherwise."""
    family = family_of(path)
    return family is not None and family.detected
