"""Texts and chats as tokens, by every family that has a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from handlers import types as t
from handlers.deferred import complete
from openai_compat.errors import ContextLengthExceeded, InvalidRequest, UnsupportedCapability

GREEDY = t.Sampling(max_tokens=2, temperature=0.0, ignore_eos=True)
WHITE = t.Picture(width=40, height=50, pixels=b"\xff" * 6000)


def chat(*parts: str | t.Part, **changes: object) -> t.TextRequest:
    message = t.Message(role="user", parts=tuple(t.TextPart(text=p) if isinstance(p, str) else p for p in parts))
    return t.TextRequest(messages=(message,), sampling=GREEDY, **changes)


def run(handler, request: t.TokenRequest, ctx) -> t.TokenResult:
    request = handler.apply_mode_settings(request)
    handler.validate_inputs(request)
    return handler.tokenize_text(request, ctx)


def answered(handler, request: t.TextRequest, ctx) -> int:
    request = handler.apply_mode_settings(request)
    return complete(handler.generate_text(request, ctx)).usage.prompt_tokens


@pytest.mark.parametrize("model", ["tiny", "base"])
def test_a_chat_is_counted_as_it_is_answered(request, collector, model: str) -> None:
    handler = request.getfixturevalue(model)
    asked = chat("The quick brown fox <|im_end|>")
    counted = run(handler, t.TokenRequest(chat=asked), collector())
    assert len(counted.ids) == answered(handler, asked, collector())
    assert counted.context_length == handler._lm.context_length


def test_a_text_is_what_the_tokenizer_makes_of_it_and_back(tiny, snapshot: Path, collector) -> None:
    text = "hello world, hello there!"
    counted = run(tiny, t.TokenRequest(text=text, spelled=True), collector())
    tokenizer = AutoTokenizer.from_pretrained(snapshot)
    assert list(counted.ids) == tokenizer(text)["input_ids"]
    assert list(counted.pieces or ()) == tokenizer.convert_ids_to_tokens(list(counted.ids))
    assert run(tiny, t.TokenRequest(ids=counted.ids), collector()).text == text


def test_what_is_too_long_by_its_bytes_alone_is_not_read(tiny, collector) -> None:
    longest = tiny._lm.vocabulary.longest * tiny._lm.context_length
    with pytest.raises(ContextLengthExceeded):
        run(tiny, t.TokenRequest(text="a" * (longest + tiny._lm.vocabulary.longest)), collector())


def test_a_chat_over_the_context_is_counted(tiny, collector) -> None:
    asked = chat("the fox " * tiny._lm.context_length)
    assert len(run(tiny, t.TokenRequest(chat=asked, text=None), collector()).ids) > tiny._lm.context_length


@pytest.mark.parametrize(("handler", "param"), [("tiny", "tokens[1]"), ("tiny_encoder", "tokens[1]")])
def test_ids_that_are_none_are_named(request, collector, handler: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        run(request.getfixturevalue(handler), t.TokenRequest(ids=(1, 10**6)), collector())
    assert caught.value.param == param


@pytest.mark.parametrize("model", ["tiny_llava", "tiny_janus"])
def test_pictures_count_with_all_their_tokens(request, collector, model: str) -> None:
    handler = request.getfixturevalue(model)
    asked = chat("What is this? ", t.ImagePart(picture=WHITE))
    counted = run(handler, t.TokenRequest(chat=asked), collector())
    alone = run(handler, t.TokenRequest(chat=chat("What is this? ")), collector())
    used = complete(handler.process_multimodal(handler.apply_mode_settings(asked), collector())).usage.prompt_tokens
    assert len(counted.ids) == used > len(alone.ids) + 10


def test_words_alone_count_as_they_are_answered(tiny_janus, collector) -> None:
    asked = chat("What is this?")
    assert len(run(tiny_janus, t.TokenRequest(chat=asked), collector()).ids) == answered(tiny_janus, asked, collector())


def test_a_picture_is_refused_where_the_chat_would_be(tiny, collector) -> None:
    with pytest.raises(UnsupportedCapability) as caught:
        run(tiny, t.TokenRequest(chat=chat("x", t.ImagePart(picture=WHITE))), collector())
    assert caught.value.param == "messages[0].content"


@pytest.mark.parametrize("model", ["tiny_encoder", "tiny_ranker", "tiny_clip"])
def test_an_embedding_model_shows_the_tokens_that_it_reads(request, collector, model: str) -> None:
    handler = request.getfixturevalue(model)
    tokenizer = AutoTokenizer.from_pretrained(handler.spec.path)
    for start in (True, False):
        counted = run(handler, t.TokenRequest(text="the fox", start=start, spelled=True), collector())
        assert list(counted.ids) == tokenizer("the fox", add_special_tokens=start)["input_ids"]
        assert list(counted.pieces or ()) == tokenizer.convert_ids_to_tokens(list(counted.ids))
    assert "fox" in run(handler, t.TokenRequest(ids=counted.ids), collector()).text


def test_an_embedding_model_has_no_chats(tiny_encoder, collector: Callable[..., object]) -> None:
    with pytest.raises(UnsupportedCapability):
        run(tiny_encoder, t.TokenRequest(chat=chat("hello")), collector())
