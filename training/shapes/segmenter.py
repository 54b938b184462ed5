"""The segmenter: an UPerNet in small, on a ResNet, that says of every pixel whether it is background or which shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.shapes.data import draw, mask
from training.shapes.learning import Average, Log, as_batch, count, descend
from training.shapes.saving import begun, labels, processing, save
from training.shapes.scenes import KINDS, combinations, crowd, disguised

BATCH = 24


def make_segmenter() -> Any:
    from transformers import ResNetConfig, UperNetConfig, UperNetForSemanticSegmentation

    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64, 96],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=32,
        pool_scales=[1, 2],
        use_auxiliary_head=False,
        **labels(("background", *KINDS)),
    )
    return UperNetForSemanticSegmentation(config)


def train(out: Path, seed: int, log: Log, *, resume: bool = False, steps: int = 4000) -> None:
    """Train on pictures that are each seen once, and write the model to ``out``."""
    import torch
    from transformers import SegformerImageProcessor

    torch.manual_seed(seed)
    model = begun(make_segmenter(), out, resume=resume)
    log(f"segmenter: {count(model)} parameters, {steps} steps of {BATCH} pictures, seed {seed}")
    average = Average(model, 0.99)
    rng = np.random.default_rng(seed)
    allowed = combinations("train")

    def loss() -> Any:
        scenes = [disguised(crowd(rng, allowed), rng) for _ in range(BATCH)]
        wanted = torch.from_numpy(np.stack([mask(scene) for scene in scenes])).long()
        return model(as_batch([draw(scene, rng) for scene in scenes]), labels=wanted).loss

    for _ in descend(model.parameters(), steps, 2e-3, loss, log, "segmenter"):
        average.follow(model)
    save(out, average.model, SegformerImageProcessor(**processing()))
