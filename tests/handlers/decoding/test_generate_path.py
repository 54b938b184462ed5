"""Models that may not be packed are found out, and decode like the library's own loop, each request by itself."""

from __future__ import annotations

from threading import get_ident

import pytest

from handlers import types as t
from handlers.decoding.generate_path import GeneratePath
from handlers.decoding.prefill import can_prefill
from handlers.deferred import complete
from openai_compat.errors import Cancelled

PROMPT = "The quick brown fox jumps over the lazy dog"


@pytest.fixture(params=["mamba", "lfm2", "falcon", "stablelm", "bloom"])
def model(request, family):
    found = family(request.param)
    assert isinstance(found.handler._engine, GeneratePath)
    return found


@pytest.fixture
def ids(model) -> tuple[int, ...]:
    return tuple(model.handler._lm.vocabulary.tokenizer.encode(PROMPT))


def test_greedy_equals_plain_generate(model, ids, collector, tokens) -> None:
    asked = model.submit(ids, collector())
    complete(asked)
    assert tokens(asked) == model.expected(ids, 12)


def test_requests_take_turns_and_are_never_mixed(model, ids, collector, tokens) -> None:
    prompts = [ids, tuple(reversed(ids)), ids[:3], ids[2:], ids[1:5], ids[::2]]
    asked = [model.submit(prompt, collector(), max_tokens=8 + i) for i, prompt in enumerate(prompts)]
    complete(asked[-1])
    for i, prompt in enumerate(prompts):
        assert tokens(asked[i]) == model.expected(prompt, 8 + i)


def test_what_a_model_remembers_of_one_request_is_not_there_for_another(model, ids, collector) -> None:
    """As Qwen2-VL remembers by how much a picture moves its positions; each request's loop has a thread of its own."""
    network, engine = model.handler._lm.model, model.handler._engine
    network.rope_deltas = "of a request long gone"
    own: dict[int, object] = {}
    found: list[object] = []

    def remember(module, args) -> None:
        found.append(network.rope_deltas is own.get(get_ident()))
        network.rope_deltas = own.setdefault(get_ident(), object())

    engine._remembering = [network]
    hook = network.register_forward_pre_hook(remember)
    asked = [model.submit(prompt, collector(), max_tokens=6) for prompt in (ids, ids[:3])]
    for one in asked:
        complete(one)
    hook.remove()
    engine._remembering = []
    del network.rope_deltas
    assert len(own) == 2
    assert len(found) > 8
    assert all(found)


def test_a_long_answer_lets_a_short_one_through(model, ids, collector) -> None:
    long, short = model.submit(ids, collector(), max_tokens=40), model.submit(ids, collector(), max_tokens=2)
    complete(short)
    assert long.poll() is None
    complete(long)
    assert not model.handler._engine._running


def test_a_request_that_waits_can_be_cancelled(model, ids, collector) -> None:
    asked = [model.submit(ids, collector(), max_tokens=40) for _ in range(4)]
    waiting = model.submit(ids, collector(checks=1, error=Cancelled))
    model.handler._engine.step()
    with pytest.raises(Cancelled):
        waiting.poll()
    assert all(one.poll() is None for one in asked)
    for one in asked:
        complete(one)


def test_several_answers_and_chunks_change_nothing(model, ids, collector, tokens, monkeypatch) -> None:
    expected = model.expected(ids, 12)
    several = complete(model.submit(ids, collector(), n=3))
    assert [list(answer.tokens) for answer in several.answers[0]] == [expected] * 3
    monkeypatch.setattr("handlers.decoding.generate_path.CHUNK", 3)
    monkeypatch.setattr("handlers.decoding.prefill.CHUNK", 3)
    asked = model.submit(ids, collector())
    complete(asked)
    assert tokens(asked) == expected


def test_only_a_past_of_keys_and_values_is_run_beforehand(family) -> None:
    found = {name: can_prefill(family(name).handler._lm.model) for name in ("mamba", "lfm2", "falcon", "stablelm")}
    assert found == {"mamba": False, "lfm2": False, "falcon": True, "stablelm": True}


def test_a_prompt_can_be_scored(model, collector) -> None:
    request = t.TextRequest(prompts=(PROMPT,), echo=True, sampling=t.Sampling(max_tokens=0, logprobs=1))
    scored = complete(model.handler.generate_text(request, collector())).choices[0].logprobs
    assert scored[0].logprob is None
    assert all(token.logprob <= 0 for token in scored[1:])


def test_a_cancelled_request_ends_within_one_token_and_the_next_one_is_served(model, ids, collector, tokens) -> None:
    ctx = collector(checks=4, error=Cancelled)
    gone = model.submit(ids, ctx)
    next_one = model.submit(ids, collector())
    complete(next_one)
    with pytest.raises(Cancelled):
        gone.poll()
    assert (ctx.spent.prompt_tokens, ctx.spent.completion_tokens) == (len(ids), 2)
    assert tokens(next_one) == model.expected(ids, 12)
