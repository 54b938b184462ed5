"""The tokenizer that painter and CLIP share, and the ways in which a picture's caption may be worded."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.shapes.scenes import COLOURS, KINDS, Scene, with_article

MAX_TOKENS = 32
OTHER_WORDS = (
    *("a", "an", "the", "on", "in", "and", "of", "with", "background", "picture", "image", "photo", "drawing", "painting"),
    *("shape", "shapes", "draw", "paint", "please", "show", "me", "one", "two", "three", "small", "large", "big", "simple"),
    *("flat", "colour", "color"),
)


def make_tokenizer() -> Any:
    """A ``CLIPTokenizer`` that has each word of the captions as one token and every byte for the rest.

    Its vocabulary depends on nothing but this file, so that models trained apart agree.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=4000, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator([" ".join(sorted((*COLOURS, *KINDS, *OTHER_WORDS)))] * 2, trainer)
    vocabulary, merges = _with_bytes(trained)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _with_bytes(trained: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    from tokenizers import pre_tokenizers

    merges = [(left, right) for left, right in json.loads(trained.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [*letters, *(f"{letter}</w>" for letter in letters), *(left + right for left, right in merges)]
    tokens = [*dict.fromkeys(known), "<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, merges


def worded(scene: Scene, rng: np.random.Generator) -> str:
    """A caption as people write them: mostly the plain one, at times shorter or with a few words before it."""
    shape = scene.shapes[0]
    thing = f"{shape.colour} {shape.kind}"
    choice = rng.random()
    if choice < 0.75:
        return scene.caption
    if choice < 0.85:
        return f"{('a picture of', 'an image of', 'draw', 'a drawing of')[rng.integers(4)]} {scene.caption}"
    if choice < 0.92:
        return f"{thing} on {scene.background}"
    return with_article(thing)
