"""The CLIP: pictures and captions as vectors of one space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.shapes.data import draw
from training.shapes.learning import Average, Log, as_batch, count, descend
from training.shapes.saving import GREY, save
from training.shapes.scenes import LOOKED_AT, SIZE, combinations, single
from training.shapes.words import MAX_TOKENS, make_tokenizer

BATCH = 64
WIDTH = 64


def make_clip(tokenizer: Any) -> Any:
    from transformers import CLIPConfig, CLIPModel

    shared = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4, "projection_dim": WIDTH}
    text = shared | {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = shared | {"num_hidden_layers": 3, "image_size": SIZE, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def train(out: Path, seed: int, log: Log, steps: int = 4000) -> None:
    """Train on batches in which no caption comes twice, so that each picture has one right caption; write to ``out``."""
    import torch

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_clip(tokenizer)
    log(f"clip: {count(model)} parameters, {steps} steps of {BATCH} pictures, seed {seed}")
    average = Average(model, 0.995)
    rng = np.random.default_rng(seed)
    allowed = combinations("train")

    def loss() -> Any:
        scenes = [single(rng, allowed[index], LOOKED_AT) for index in rng.permutation(len(allowed))[:BATCH]]
        words = tokenizer([scene.caption for scene in scenes], padding=True, return_tensors="pt")
        pictures = as_batch([draw(scene, rng) for scene in scenes])
        return model(**words, pixel_values=pictures, return_loss=True).loss

    for _ in descend(model.parameters(), steps, 1e-3, loss, log, "clip"):
        average.follow(model)
    save(out, average.model, tokenizer, image_processor())


def image_processor() -> Any:
    from transformers import CLIPImageProcessor

    edge, crop = {"shortest_edge": SIZE}, {"height": SIZE, "width": SIZE}
    return CLIPImageProcessor(size=edge, crop_size=crop, image_mean=GREY, image_std=GREY)
