"""The classifier: a ResNet in small that names a picture's shape and colour, "red circle"."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from training.shapes.data import draw
from training.shapes.learning import Average, Log, as_batch, count, descend
from training.shapes.saving import begun, labels, processing, save
from training.shapes.scenes import COLOURS, KINDS, LOOKED_AT, Combination, Scene, combinations, nameless, single

NAMES = tuple(f"{colour} {kind}" for colour, kind in product(COLOURS, KINDS))
BATCH = 64


def make_classifier() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 1, 1], layer_type="basic", **labels(NAMES)
    )
    return ResNetForImageClassification(config)


def train(out: Path, seed: int, log: Log, *, resume: bool = False, steps: int = 3000) -> None:
    """Train on pictures that are each seen once, and write the model to ``out``."""
    import torch
    from transformers import ViTImageProcessor

    torch.manual_seed(seed)
    model = begun(make_classifier(), out, resume=resume)
    log(f"classifier: {count(model)} parameters, {steps} steps of {BATCH} pictures, seed {seed}")
    average = Average(model, 0.99)
    rng = np.random.default_rng(seed)
    allowed = combinations("labelled")

    def loss() -> Any:
        scenes = [_scene(rng, allowed[index]) for index in rng.integers(len(allowed), size=BATCH)]
        wanted = torch.tensor([NAMES.index(scene.label) for scene in scenes])
        return model(as_batch([draw(scene, rng) for scene in scenes]), labels=wanted).loss

    for _ in descend(model.parameters(), steps, 2e-3, loss, log, "classifier"):
        average.follow(model)
    save(out, average.model, ViTImageProcessor(**processing()))


def _scene(rng: np.random.Generator, combination: Combination) -> Scene:
    """Half of the backgrounds have no name: that a pair is never seen on one colour must not become a rule."""
    scene = single(rng, combination, LOOKED_AT)
    return structs.replace(scene, ground=nameless(rng)) if rng.random() < 0.5 else scene
