"""Tokens by bytes, where nobody counts them."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc

import pytest

from openai_compat.gateway.metering import estimate
from openai_compat.gateway.order import Envelope

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, estimate.DEFAULT_COMPLETION),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 9),
        ({"max_output_tokens": 5}, 5),
        ({"max_tokens": "5000"}, 5000),
        ({"max_tokens": 5e3, "n": "2"}, 10_000),
        ({"max_tokens": 10**30}, 1 << 40),
        ({"max_tokens": float("inf")}, estimate.DEFAULT_COMPLETION),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": "many", "n": -1}, estimate.DEFAULT_COMPLETION),
        ({"max_tokens": True}, estimate.DEFAULT_COMPLETION),
        ({"max_tokens": 1, "n": 10**9}, 128),
    ],
)
def test_the_most_that_an_answer_may_have(fields, tokens: int) -> None:
    assert estimate.most_completion_tokens(CHAT, Envelope(**fields)) == tokens


def test_a_text_is_a_token_for_four_bytes_however_long_it_is() -> None:
    for words in (10, 5000):
        body = json.dumps({"messages": [{"role": "user", "content": "word " * words}]}).encode()
        assert estimate.prompt_tokens(CHAT, body) == pytest.approx(len(body) / 4, abs=20)


@pytest.mark.parametrize("head", ["data:image/png;base64,", ""])
def test_a_picture_or_a_sound_counts_the_same_whatever_its_bytes(head: str) -> None:
    def body(size: int) -> bytes:
        data = head + base64.b64encode(os.urandom(size)).decode()
        return json.dumps({"messages": [{"content": [{"url": data}, {"text": "What is it?"}]}]}).encode()

    small, large = (estimate.prompt_tokens(CHAT, body(size)) for size in (10_000, 1_000_000))
    assert small == large
    assert estimate.MEDIUM <= small < estimate.MEDIUM + 50


def test_a_text_of_quotes_costs_no_memory_for_each_of_them() -> None:
    body = b'{"prompt":"' + b'\\"a' * 1_000_000 + b'"}'
    tracemalloc.start()
    try:
        assert estimate.prompt_tokens("/v1/completions", body) == pytest.approx(len(body) / 4, rel=0.01)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_text_without_a_gap_is_text() -> None:
    body = json.dumps({"prompt": "日本語" * 5000}, ensure_ascii=False).encode()
    assert estimate.prompt_tokens("/v1/completions", body) == pytest.approx(len(body) / 4, rel=0.01)


def test_what_a_model_does_not_read_as_text_counts_nothing() -> None:
    assert estimate.prompt_tokens("/v1/images/generations", b'{"prompt": "a cat"}') == 0
    assert estimate.completion_tokens("/v1/audio/speech", 10**6, stream=False) == 0
    assert estimate.most_completion_tokens("/v1/embeddings", Envelope()) == 0


def test_a_stream_needs_more_bytes_for_a_token_than_a_whole_answer() -> None:
    assert estimate.completion_tokens(CHAT, 2000, stream=True) == 10
    assert estimate.completion_tokens(CHAT, 2000, stream=False) == 500
