"""What the text of a causal model means, with a scripted engine in the place of the model's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.decoding.ticket import Generation
from handlers.decoding.transcript import Answer, Piece
from handlers.transformer import TransformerHandler
from openai_compat.errors import ModelUnavailable

TOOLS = (t.Tool(name="weather"), t.Tool(name="now"))
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
THOUGHT = "<think>\nHm.\n</think>\n\n"


class Script:
    """Answers with given texts, in pieces of three letters; remembers what it was asked."""

    def __init__(self, vocabulary: Any, *texts: str, reason: str = "stop") -> None:
        self._answers = [
            Answer(index=i, text=text, tokens=tuple(vocabulary.tokenizer.encode(text)), finish_reason=reason, mean_logprob=i)
            for i, text in enumerate(texts)
        ]
        self.prompts: list[Any] = []

    def submit(self, prompts: Any, config: Any, ctx: Any, *, on_piece: Any, on_end: Any, **more: Any) -> t.TextResult:
        self.prompts += prompts
        for answer in self._answers:
            for i in range(0, len(answer.text), 3):
                on_piece(Piece(index=answer.index, text=answer.text[i : i + 3]))
        return on_end(Generation(answers=(tuple(self._answers),), keep=config.keep, prompt_tokens=5))


def say(**fields) -> t.TextRequest:
    messages = (t.Message(role="user", parts=(t.TextPart(text="hi"),)),)
    return t.TextRequest(messages=messages, mode="chat", **{"tools": TOOLS, **fields})


@pytest.fixture
def scripted(snapshot: Path, loader: Callable[..., TransformerHandler], monkeypatch) -> Iterator[Callable[..., Any]]:
    def make(*texts: str, options: dict[str, Any] | None = None, **fields) -> TransformerHandler:
        handler = loader(snapshot, context_length=96, options={"reasoning_parser": "think", **(options or {})})
        monkeypatch.setattr(handler, "_engine", Script(handler._lm.vocabulary, *texts, **fields))
        monkeypatch.setattr(handler._prompts, "_context_length", 4000)
        return handler

    return make


def test_reasoning_words_and_calls_are_told_apart_and_streamed(scripted, collector) -> None:
    ctx = collector()
    result = scripted(f"{THOUGHT}Let me see.\n{CALL}").generate_text(say(), ctx)
    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("Hm.", "Let me see.\n", "tool_calls")
    assert [(call.name, call.arguments) for call in choice.tool_calls] == [("weather", '{"city": "Rome"}')]
    assert ctx.text() == choice.text
    assert "".join(delta.reasoning for delta in ctx.deltas) == "Hm."
    pieces = [piece for delta in ctx.deltas for piece in delta.tool_calls]
    assert "".join(piece.arguments for piece in pieces) == '{"city": "Rome"}'
    assert len(pieces) > 3


def test_reasoning_is_counted_in_tokens(scripted, collector) -> None:
    handler = scripted(f"{THOUGHT}Yes, it is.")
    result = handler.generate_text(say(), collector())
    exact = len(handler._lm.vocabulary.tokenizer.encode(THOUGHT.rstrip()))
    assert abs(result.usage.reasoning_tokens - exact) <= 1
    assert 0 < result.usage.reasoning_tokens < result.usage.completion_tokens


def test_what_was_held_back_at_the_end_is_still_shown(scripted, collector) -> None:
    ctx = collector()
    result = scripted("Look: <tool_call", reason="length").generate_text(say(), ctx)
    assert ctx.text() == result.choices[0].text == "Look: <tool_call"
    assert result.choices[0].finish_reason == "length"


def test_each_choice_is_read_by_itself(scripted, collector) -> None:
    result = scripted(CALL, "words", CALL + CALL).generate_text(say(sampling=t.Sampling(n=3)), collector())
    assert [len(choice.tool_calls) for choice in result.choices] == [1, 0, 2]
    assert [choice.finish_reason for choice in result.choices] == ["tool_calls", "stop", "tool_calls"]


def test_the_best_answer_is_read_once_it_is_known(scripted, collector) -> None:
    ctx = collector()
    result = scripted("words", CALL).generate_text(say(sampling=t.Sampling(n=1, best_of=2)), ctx)
    assert [call.name for call in result.choices[0].tool_calls] == ["weather"]
    assert ctx.deltas == []


def test_a_raw_completion_is_text_whatever_it_holds(scripted, collector) -> None:
    request = t.TextRequest(messages=say().messages, mode="complete")
    assert scripted(THOUGHT + CALL).generate_text(request, collector()).choices[0].text == THOUGHT + CALL


def test_control_tokens_that_mark_calls_become_text(scripted) -> None:
    handler = scripted("x")
    vocabulary = handler._lm.vocabulary
    start = vocabulary.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert (start in vocabulary.hidden, vocabulary.shown_size(start)) == (True, 0)
    vocabulary.show(("<|im_start|>",))
    assert (start in vocabulary.hidden, vocabulary.shown_size(start)) == (False, len("<|im_start|>"))
    assert start in vocabulary.special


def test_an_unknown_parser_keeps_the_model_from_loading(snapshot, loader) -> None:
    with pytest.raises(ModelUnavailable, match="tool_parser"):
        loader(snapshot, options={"tool_parser": "klingon"})
