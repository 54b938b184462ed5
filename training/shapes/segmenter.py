"""The segmenter: a SegFormer in small that says of every pixel whether it is background or which shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.shapes.data import draw, mask
from training.shapes.learning import Average, Log, as_batch, count, descend
from training.shapes.saving import labels, processing, save
from training.shapes.scenes import KINDS, combinations, crowd

BATCH = 32


def make_segmenter() -> Any:
    """The first stride is 2 instead of 4: of pictures this small every second pixel is needed for a clean edge."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 2, 3, 4],
        strides=[2, 2, 2, 2],
        decoder_hidden_size=48,
        drop_path_rate=0.0,
        **labels(("background", *KINDS)),
    )
    return SegformerForSemanticSegmentation(config)


def train(out: Path, seed: int, log: Log, steps: int = 2500) -> None:
    """Train on pictures that are each seen once, and write the model to ``out``."""
    import torch
    from transformers import SegformerImageProcessor

    torch.manual_seed(seed)
    model = make_segmenter()
    log(f"segmenter: {count(model)} parameters, {steps} steps of {BATCH} pictures, seed {seed}")
    average = Average(model, 0.99)
    rng = np.random.default_rng(seed)
    allowed = combinations("train")

    def loss() -> Any:
        scenes = [crowd(rng, allowed) for _ in range(BATCH)]
        wanted = torch.from_numpy(np.stack([mask(scene) for scene in scenes])).long()
        return model(as_batch([draw(scene, rng) for scene in scenes]), labels=wanted).loss

    for _ in descend(model.parameters(), steps, 2e-3, loss, log, "segmenter"):
        average.follow(model)
    save(out, average.model, SegformerImageProcessor(**processing()))
