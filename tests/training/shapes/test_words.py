"""The words of the captions are one token each, and the vocabulary is always the same."""

from __future__ import annotations

import numpy as np

from training.shapes.data import singles
from training.shapes.scenes import COLOURS, KINDS, PAINTED, combinations
from training.shapes.words import make_tokenizer, worded


def test_each_word_of_a_caption_is_one_token_and_others_are_spelt() -> None:
    tokenizer = make_tokenizer()
    for word in (*COLOURS, *KINDS, "background", "a", "an", "on"):
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    assert tokenizer.tokenize("Zebra?") == ["z", "e", "b", "r", "a</w>", "?</w>"]
    assert tokenizer.unk_token_id not in tokenizer("日本 é ß", add_special_tokens=False).input_ids


def test_the_committed_models_have_this_vocabulary(bundled_folder) -> None:
    from transformers import AutoTokenizer

    wanted = make_tokenizer().get_vocab()
    assert AutoTokenizer.from_pretrained(bundled_folder("shapes-clip")).get_vocab() == wanted
    assert AutoTokenizer.from_pretrained(bundled_folder("shapes") / "tokenizer").get_vocab() == wanted


def test_a_picture_is_worded_in_more_ways_than_one_and_never_wrongly() -> None:
    rng = np.random.default_rng(0)
    (scene, _), *_ = singles(0, 1, combinations("train"), PAINTED)
    ways = {worded(scene, rng) for _ in range(200)}
    assert len(ways) > 4
    assert all(scene.label in way for way in ways)
