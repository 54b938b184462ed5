"""What tokens stand for, in a memory that does not grow with the tokens that answers have had."""

from __future__ import annotations

import sys

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from handlers.decoding.vocabulary import KEPT, Vocabulary

WORDS = 6 * KEPT


def large_vocabulary() -> Vocabulary:
    words = {f"w{number}": number for number in range(WORDS)}
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0"))))


def test_tokens_are_spelled_the_same_however_many_came_between() -> None:
    vocabulary = large_vocabulary()
    for _ in range(2):
        assert [vocabulary.token_bytes(number) for number in range(WORDS)] == [f"w{number}".encode() for number in range(WORDS)]


def test_rare_tokens_of_a_large_vocabulary_take_no_more_memory_one_after_the_other() -> None:
    vocabulary = large_vocabulary()
    for number in range(2 * KEPT):
        vocabulary.token_bytes(number)
    before = sys.getallocatedblocks()
    for number in range(2 * KEPT, WORDS):
        vocabulary.token_bytes(number)
    assert sys.getallocatedblocks() - before < KEPT
