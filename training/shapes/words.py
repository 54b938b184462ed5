"""The tokenizer that painter and CLIP share, and the ways in which a picture's caption may be worded."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from training.shapes.scenes import COLOURS, KINDS, Scene, with_article

MAX_TOKENS = 32
END = "</w>"  # marks the last letter of a word
OTHER_WORDS = (
    *("a", "an", "the", "on", "in", "and", "of", "with", "background", "picture", "image", "photo", "drawing", "painting"),
    *("shape", "shapes", "draw", "paint", "please", "show", "me", "one", "two", "three", "small", "large", "big", "simple"),
    *("flat", "colour", "color"),
)


def make_tokenizer() -> Any:
    """A ``CLIPTokenizer`` that has each word of the captions as one token and every byte for the rest.

    Its vocabulary depends on nothing but this file; one that is learnt would have another order in each process.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    merges = _merges((*COLOURS, *KINDS, *OTHER_WORDS))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = (*letters, *(letter + END for letter in letters), *(left + right for left, right in merges))
    tokens = (*dict.fromkeys(known), "<|startoftext|>", "<|endoftext|>")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _merges(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Joins, best first, that make each word one token. Those of later words come last, and so leave earlier words whole."""
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _joined([*word[:-1], word[-1] + END], merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return merges


def _joined(pieces: list[str], merges: list[tuple[str, str]]) -> list[str]:
    """``pieces`` after all joins that apply, the best one first each time."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while pairs := [pair for pair in pairwise(pieces) if pair in ranks]:
        left, right = min(pairs, key=lambda pair: ranks[pair])
        at = list(pairwise(pieces)).index((left, right))
        pieces = [*pieces[:at], left + right, *pieces[at + 2 :]]
    return pieces


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
