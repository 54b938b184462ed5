"""The detector: an RT-DETR in small that finds circles, squares and triangles. Training needs scipy, for the matching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.shapes.data import draw
from training.shapes.learning import Average, Log, as_batch, count, descend
from training.shapes.saving import begun, labels, processing, save
from training.shapes.scenes import KINDS, SIZE, Scene, combinations, crowd

BATCH = 24


def make_detector() -> Any:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64, 96],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_indices=[2, 3, 4],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[32, 64, 96],
        encoder_hidden_dim=64,
        encoder_ffn_dim=128,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=64,
        num_queries=12,
        decoder_in_channels=[64, 64, 64],
        decoder_ffn_dim=128,
        decoder_layers=2,
        decoder_attention_heads=4,
        num_denoising=12,
        **labels(KINDS),
    )
    return RTDetrForObjectDetection(config)


def train(out: Path, seed: int, log: Log, *, resume: bool = False, steps: int = 3000) -> None:
    """Train on pictures that are each seen once, and write the model to ``out``."""
    import torch
    from transformers import RTDetrImageProcessor

    torch.manual_seed(seed)
    model = begun(make_detector(), out, resume=resume)
    log(f"detector: {count(model)} parameters, {steps} steps of {BATCH} pictures, seed {seed}")
    average = Average(model, 0.995)
    rng = np.random.default_rng(seed)
    allowed = combinations("train")

    def loss() -> Any:
        scenes = [crowd(rng, allowed) for _ in range(BATCH)]
        return model(as_batch([draw(scene, rng) for scene in scenes]), labels=[_wanted(scene) for scene in scenes]).loss

    for _ in descend(model.parameters(), steps, 1e-3, loss, log, "detector"):
        average.follow(model)
    save(out, average.model, RTDetrImageProcessor(**processing()))


def _wanted(scene: Scene) -> dict[str, Any]:
    """Boxes as RT-DETR learns them: centre and lengths, as parts of the picture."""
    import torch

    left, top, right, bottom = torch.tensor([shape.box() for shape in scene.shapes]).unbind(1)
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1) / SIZE
    return {"class_labels": torch.tensor([KINDS.index(shape.kind) for shape in scene.shapes]), "boxes": boxes}
