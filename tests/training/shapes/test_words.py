"""The words of the captions are one token each, and the vocabulary is always the same."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from training.shapes.data import singles
from training.shapes.scenes import COLOURS, KINDS, PAINTED, combinations
from training.shapes.words import OTHER_WORDS, make_tokenizer, worded


def test_each_word_of_a_caption_is_one_token_and_others_are_spelt() -> None:
    tokenizer = make_tokenizer()
    for word in (*COLOURS, *KINDS, *OTHER_WORDS):
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    assert tokenizer.tokenize("Zebra?") == ["z", "e", "b", "r", "a</w>", "?</w>"]
    assert tokenizer.unk_token_id not in tokenizer("日本 é ß", add_special_tokens=False).input_ids


def test_the_vocabulary_is_the_same_in_every_process() -> None:
    vocabulary = json.dumps(make_tokenizer().get_vocab(), sort_keys=True)
    assert hashlib.sha256(vocabulary.encode()).hexdigest().startswith("805ef13301fcfd79")


@pytest.mark.parametrize("folder", ["shapes/tokenizer", "shapes-clip"])
def test_the_committed_models_read_each_word_as_one_token(bundled_folder, folder) -> None:
    from transformers import AutoTokenizer

    name, _, part = folder.partition("/")
    tokenizer = AutoTokenizer.from_pretrained(bundled_folder(name) / part)
    words = (*COLOURS, *KINDS, *OTHER_WORDS)
    assert [tokenizer.tokenize(word) for word in words] == [[f"{word}</w>"] for word in words]


def test_a_picture_is_worded_in_more_ways_than_one_and_never_wrongly() -> None:
    rng = np.random.default_rng(0)
    (scene, _), *_ = singles(0, 1, combinations("train"), PAINTED)
    ways = {worded(scene, rng) for _ in range(200)}
    assert len(ways) > 4
    assert all(scene.label in way for way in ways)
