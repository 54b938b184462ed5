"""The CLIP: pictures and captions as vectors of one space."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from training.shapes.data import draw
from training.shapes.learning import Average, Log, as_batch, count, descend
from training.shapes.saving import GREY, begun, save
from training.shapes.scenes import SIZE, UPRIGHT, Combination, Scene, combinations, nameless, single, with_article
from training.shapes.words import MAX_TOKENS, make_tokenizer

BATCH = 48
PARTS = ("colour", "kind", "background")
HIDDEN = ("", "", *PARTS)
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


def batch(rng: np.random.Generator, allowed: tuple[Combination, ...]) -> list[tuple[Scene, str]]:
    """Pictures with captions, of which no two are the same, so that each picture has one right caption.

    In most batches one thing has no name: the background or the shape is of a colour that is not called anything, or the
    caption says just "shape". So that each thing is learnt by itself, and not only as a part of what is often seen together.
    """
    hidden = HIDDEN[rng.integers(len(HIDDEN))]
    chosen: dict[Combination, Combination] = {}
    for one in _shuffled(rng, allowed):
        colour, kind, background = ("" if part == hidden else word for part, word in zip(PARTS, one, strict=True))
        chosen.setdefault((colour, kind, background), one)
    return [_hide(single(rng, one, UPRIGHT), hidden, rng) for one in islice(chosen.values(), BATCH)]


def _shuffled(rng: np.random.Generator, allowed: tuple[Combination, ...]) -> list[Combination]:
    """In random order, but those that differ in their kind alone together: it is the hardest to tell."""
    turn = {place: rng.random() for place in sorted({(one[0], one[2]) for one in allowed})}
    mixed = [allowed[index] for index in rng.permutation(len(allowed))]
    return sorted(mixed, key=lambda one: turn[one[0], one[2]])


def _hide(scene: Scene, hidden: str, rng: np.random.Generator) -> tuple[Scene, str]:
    shape = scene.shapes[0]
    if hidden == "background":
        return structs.replace(scene, ground=nameless(rng)), with_article(scene.label)
    if hidden == "colour":
        caption = f"a {shape.kind} on {with_article(scene.background)} background"
        return structs.replace(scene, shapes=(structs.replace(shape, tint=nameless(rng)),)), caption
    return scene, scene.caption.replace(shape.kind, "shape") if hidden == "kind" else scene.caption


def train(out: Path, seed: int, log: Log, *, resume: bool = False, steps: int = 6000) -> None:
    """Train on pictures that are each seen once, and write the model to ``out``."""
    import torch
    from transformers import CLIPTokenizer

    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(out) if resume else make_tokenizer()
    model = begun(make_clip(tokenizer), out, resume=resume)
    log(f"clip: {count(model)} parameters, {steps} steps of up to {BATCH} pictures, seed {seed}")
    average = Average(model, 0.995)
    rng = np.random.default_rng(seed)
    allowed = combinations("train")

    def loss() -> Any:
        scenes, captions = zip(*batch(rng, allowed), strict=True)
        words = tokenizer(list(captions), padding=True, return_tensors="pt")
        pictures = as_batch([draw(scene, rng) for scene in scenes])
        return model(**words, pixel_values=pictures, return_loss=True).loss

    for _ in descend(model.parameters(), steps, 1e-3, loss, log, "clip"):
        average.follow(model)
    save(out, average.model, tokenizer, image_processor())


def image_processor() -> Any:
    from transformers import CLIPImageProcessor

    edge, crop = {"shortest_edge": SIZE}, {"height": SIZE, "width": SIZE}
    return CLIPImageProcessor(size=edge, crop_size=crop, image_mean=GREY, image_std=GREY)
