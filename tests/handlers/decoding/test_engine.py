"""Packed with others, a request is answered as if it were alone."""

from __future__ import annotations

import random

import pytest

from handlers.decoding.engine import Engine, Prompt
from handlers.decoding.params import TextConfig
from handlers.deferred import complete
from openai_compat.errors import APIError, Cancelled

pytestmark = pytest.mark.usefixtures("ahead")
FAMILIES = [
    "llama",
    "qwen2",
    "qwen3",
    "gemma3",
    "gemma2",
    "mistral",
    "phi",
    "phi3",
    "gpt2",
    "mixtral",
    "qwen3-moe",
    "gpt-oss",
    "olmo2",
]
LENGTHS = (1, 3, 17, 40, 5, 26, 8, 33)


def prompts(*lengths: int, seed: int = 0) -> list[tuple[int, ...]]:
    source = random.Random(seed)
    return [tuple(source.randrange(3, 400) for _ in range(length)) for length in lengths]


def run(engine: Engine, *deferreds) -> int:
    """Steps until all are there."""
    steps = 0
    while any(one.poll() is None for one in deferreds):
        engine.step()
        steps += 1
    return steps


def is_empty(engine: Engine) -> bool:
    scheduler = engine._scheduler
    return engine._pool.free == engine._pool.size and not scheduler.running and not scheduler.waiting and not engine._groups


@pytest.fixture
def llama(family):
    return family("llama")


# ---------------------------------------------------------------- greedy


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_equals_generate_alone_and_among_others(family, collector, tokens, name: str) -> None:
    model = family(name)
    assert isinstance(model.handler._engine, Engine)
    asked = prompts(*LENGTHS)
    expected = [model.expected(ids, 16) for ids in asked]
    alone = model.submit(asked[3], collector(), max_tokens=16)
    run(model.handler._engine, alone)
    assert tokens(alone) == expected[3]
    together = [model.submit(ids, collector(), max_tokens=16) for ids in asked]
    run(model.handler._engine, *together)
    assert [tokens(one) for one in together] == expected
    assert is_empty(model.handler._engine)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "gpt-oss"])
@pytest.mark.parametrize(
    "engine",
    [
        {"step_tokens": 5, "block_size": 4},
        {"step_tokens": 48, "block_size": 1},
        {"cache_bytes": 1, "block_size": 8},
        {"cache_bytes": 1, "block_size": 4, "step_tokens": 7},
    ],
    ids=["chunks", "single blocks", "scarce", "scarce chunks"],
)
def test_greedy_is_the_same_in_chunks_and_when_blocks_run_out(family, reload, collector, tokens, name, engine) -> None:
    model = reload(family(name), **engine)
    asked = prompts(*LENGTHS)
    waiting = [model.submit(ids, collector(), max_tokens=16) for ids in asked]
    run(model.handler._engine, *waiting)
    assert [tokens(one) for one in waiting] == [model.expected(ids, 16) for ids in asked]
    assert is_empty(model.handler._engine)


def test_a_request_that_comes_later_joins_at_the_next_step(llama, collector, tokens, ahead) -> None:
    engine = llama.handler._engine
    first, second = prompts(9, 11)
    early = llama.submit(first, collector(), max_tokens=30)
    for _ in range(5):
        engine.step()
    late = llama.submit(second, collector(), max_tokens=4)
    assert run(engine, late) == 4 + ahead
    assert early.poll() is None
    run(engine, early)
    assert tokens(early) == llama.expected(first, 30)
    assert tokens(late) == llama.expected(second, 4)


def test_answers_go_on_while_a_long_prompt_is_run(family, reload, collector, tokens) -> None:
    model = reload(family("llama"), step_tokens=8, block_size=4)
    short, long = prompts(4, 60)
    talking = model.submit(short, collector(), max_tokens=20)
    model.handler._engine.step()
    coming = model.submit(long, collector(), max_tokens=2)
    assert run(model.handler._engine, talking) <= 20
    run(model.handler._engine, coming)
    assert tokens(talking) == model.expected(short, 20)
    assert tokens(coming) == model.expected(long, 2)


# ---------------------------------------------------------------- sampling


def test_a_seeded_request_alone_is_the_same_among_31_others(llama, collector, tokens) -> None:
    one, *others = prompts(12, *[3 + i for i in range(31)])
    settings = {"temperature": 1.3, "top_p": 0.95, "seed": 11, "max_tokens": 30, "presence_penalty": 0.5}
    alone = llama.submit(one, collector(), **settings)
    run(llama.handler._engine, alone)
    crowd = [
        llama.submit(ids, collector(), temperature=0.5 + i / 20, seed=i if i % 2 else None, top_k=i, max_tokens=10 + i)
        for i, ids in enumerate(others[:16])
    ]
    beside = llama.submit(one, collector(), **settings)
    crowd += [llama.submit(ids, collector(), repetition_penalty=1.2, logprobs=3) for ids in others[16:]]
    run(llama.handler._engine, beside, *crowd)
    assert tokens(beside) == tokens(alone)
    assert len(set(tokens(beside))) > 5


def test_several_answers_share_one_run_of_their_prompt(llama, collector) -> None:
    (ids,) = prompts(21)
    engine = llama.handler._engine
    asked = llama.submit(ids, collector(), n=5, temperature=1.5, seed=3, max_tokens=9, salt="own")
    engine.step()
    used = engine._pool.size - engine._pool.free
    run(engine, asked)
    answers = [list(answer.tokens) for answer in asked.poll().answers[0]]
    assert used == 2  # 21 tokens in blocks of 16, whoever reads them
    assert len({tuple(answer) for answer in answers}) == 5
    for number, answer in enumerate(answers):
        single = llama.submit(ids, collector(), temperature=1.5, seed=3 + number, max_tokens=9)
        run(engine, single)
        assert list(single.poll().answers[0][0].tokens) == answer
    assert is_empty(engine)


def test_several_answers_survive_that_blocks_run_out(family, reload, collector) -> None:
    settings = {"n": 6, "temperature": 1.5, "seed": 3, "max_tokens": 30}
    (ids,) = prompts(30)
    found = []
    for engine in ({}, {"cache_bytes": 1, "block_size": 4}):
        model = reload(family("llama"), **engine)
        asked = model.submit(ids, collector(), **settings)
        run(model.handler._engine, asked)
        found.append([answer.tokens for answer in asked.poll().answers[0]])
        assert is_empty(model.handler._engine)
    assert found[0] == found[1]


# ---------------------------------------------------------------- prefix cache


def test_a_known_prefix_is_not_run_again(family, reload, collector, tokens) -> None:
    model = reload(family("llama"), block_size=4)
    (ids,) = prompts(30)
    first = model.submit(ids, collector())
    run(model.handler._engine, first)
    again = model.submit(ids, collector())
    longer = model.submit((*ids, 7, 8, 9), collector())
    run(model.handler._engine, again, longer)
    assert [one.poll().cached_tokens for one in (first, again, longer)] == [0, 28, 28]
    assert tokens(again) == tokens(first)
    assert tokens(longer) == model.expected((*ids, 7, 8, 9), 12)


def test_a_whole_turn_is_known_to_the_next_one(family, reload, collector, tokens) -> None:
    model = reload(family("llama"), block_size=4)
    (ids,) = prompts(10)
    first = model.submit(ids, collector(), max_tokens=10)
    run(model.handler._engine, first)
    turn = (*ids, *tokens(first), 5, 6)
    second = model.submit(turn, collector())
    run(model.handler._engine, second)
    assert second.poll().cached_tokens == 16  # the last token of an answer never went through the model
    assert tokens(second) == model.expected(turn, 12)


def test_what_one_salt_computed_is_hidden_from_another(family, reload, collector) -> None:
    llama = reload(family("llama"))
    canary = prompts(40, seed=9)[0]
    seen = {}
    for salt in ("alice", "bob", "alice", ""):
        asked = llama.submit(canary, collector(), salt=salt)
        run(llama.handler._engine, asked)
        seen.setdefault(salt, []).append(asked.poll().cached_tokens)
    assert seen == {"alice": [0, 32], "bob": [0], "": [0]}


def test_the_longest_unused_prefix_goes_first(family, reload, collector) -> None:
    model = reload(family("llama"), block_size=4, cache_bytes=1)
    cached = []
    old, new, big = prompts(20, 20, 60)
    for ids in (old, new, old, big, old, new):
        asked = model.submit(ids, collector(), max_tokens=1)
        run(model.handler._engine, asked)
        cached.append(asked.poll().cached_tokens)
    assert cached[2] == 16
    assert cached[4] == 16
    assert cached[5] < 16


# ---------------------------------------------------------------- ends


def test_a_cancelled_request_frees_its_blocks_within_one_step(llama, collector, tokens) -> None:
    engine = llama.handler._engine
    stays, leaves, waits = prompts(9, 35, 12)
    kept = llama.submit(stays, collector(), max_tokens=30)
    gone = llama.submit(leaves, collector(checks=4, error=Cancelled), max_tokens=30, n=2)
    for _ in range(3):
        engine.step()
    before = engine._pool.free
    engine.step()
    assert engine._pool.free > before
    assert len(engine._scheduler.running) == 1
    with pytest.raises(Cancelled):
        gone.poll()
    more = llama.submit(waits, collector())
    run(engine, kept, more)
    assert tokens(kept) == llama.expected(stays, 30)
    assert tokens(more) == llama.expected(waits, 12)
    assert is_empty(engine)


def test_a_cancelled_request_says_what_it_took_until_then(family, reload, collector, ahead) -> None:
    """Ahead, tokens that nobody has read when it ends are not counted."""
    model = reload(family("llama"), step_tokens=8)
    (ids,) = prompts(20)
    for checks, prompt, answers in [(1, 0, 0), (2, 8, 0), (3, 16, 0), (4, 20, 2), (6, 20, 6)]:
        ctx = collector(checks=checks, error=Cancelled)
        gone = model.submit(ids, ctx, n=2)
        while ctx.checks <= checks:
            model.handler._engine.step()
        with pytest.raises(Cancelled):
            gone.poll()
        assert ctx.spent.prompt_tokens - ctx.spent.cached_tokens == prompt
        assert ctx.spent.completion_tokens == max(0, answers - 2 * ahead)
        model = reload(model, step_tokens=8)


def test_a_request_that_waits_can_be_cancelled(family, reload, collector) -> None:
    model = reload(family("llama"), sequences=1)
    first, second = prompts(5, 6)
    running = model.submit(first, collector(), max_tokens=20)
    waiting = model.submit(second, collector(checks=2, error=Cancelled))
    for _ in range(3):
        model.handler._engine.step()
    with pytest.raises(Cancelled):
        waiting.poll()
    run(model.handler._engine, running)
    assert is_empty(model.handler._engine)


def test_what_breaks_while_one_answer_is_shown_stays_with_it(llama, collector, tokens) -> None:
    engine = llama.handler._engine
    first, second = prompts(5, 6)

    def break_it(piece) -> None:
        raise ZeroDivisionError

    good = llama.submit(first, collector())
    bad = llama.submit(second, collector())
    bad._on_piece = break_it
    run(engine, good)
    with pytest.raises(ZeroDivisionError):
        bad.poll()
    assert tokens(good) == llama.expected(first, 12)
    assert is_empty(engine)


def test_a_step_that_breaks_gives_up_all_and_the_next_request_is_served(llama, collector, tokens, monkeypatch) -> None:
    engine = llama.handler._engine
    first, second = prompts(5, 6)
    lost = [llama.submit(ids, collector()) for ids in (first, second)]
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(engine._forward, "run", lambda work, launch: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.step()
    for one in lost:
        with pytest.raises(ZeroDivisionError):
            one.poll()
    assert is_empty(engine)
    again = llama.submit(first, collector())
    run(engine, again)
    assert tokens(again) == llama.expected(first, 12)


def test_logits_that_are_no_numbers_fail_their_own_request_and_leave_nothing_behind(family, reload, collector, tokens) -> None:
    model = reload(family("llama"), block_size=4)
    engine = model.handler._engine
    bad, good = prompts(6, 7)
    weight = engine._forward._model.get_input_embeddings().weight
    poisoned = next(token for token in bad if token not in good)
    clean = weight[poisoned].clone()
    weight.data[poisoned] = float("nan")
    first, second = model.submit(bad, collector()), model.submit(good, collector())
    run(engine, second)
    weight.data[poisoned] = clean
    with pytest.raises(APIError):
        first.poll()
    assert poisoned in tokens(second) or tokens(second) == model.expected(good, 12)
    again = model.submit(bad, collector())
    run(engine, again)
    assert tokens(again) == model.expected(bad, 12)


@pytest.mark.parametrize("what", ["gave way", "was cancelled"])
def test_nor_do_they_where_their_sequence_has_gone_before_they_are_read(
    family, reload, collector, tokens, ahead, what: str
) -> None:
    if not ahead:
        pytest.skip("read in their own step")
    model = reload(family("llama"), block_size=4)
    engine = model.handler._engine
    (bad,) = prompts(9)
    weight = engine._forward._model.get_input_embeddings().weight
    clean = weight[bad[0]].clone()
    weight.data[bad[0]] = float("nan")
    lost = model.submit(bad, collector(checks=2 if what == "was cancelled" else None, error=Cancelled), max_tokens=9)
    engine.step()
    if what == "gave way":
        engine._scheduler._preempt(engine._scheduler.running[0])
    weight.data[bad[0]] = clean
    while not lost.ended:
        engine.step()
    again = model.submit(bad, collector())
    run(engine, again)
    assert tokens(again) == model.expected(bad, 12)


@pytest.mark.parametrize("count", [0, 1])
def test_prompts_that_are_scored_in_the_same_step_are_all_repeated_and_leave(llama, collector, count: int) -> None:
    engine = llama.handler._engine
    both = [Prompt(ids=ids, text=text, limit=count) for ids, text in zip(prompts(5, 7), ("one", "two"), strict=True)]
    config = TextConfig(max_tokens=count, echo=True, logprobs=1, temperature=0.0)
    shown = []
    asked = engine.submit(tuple(both), config, collector(), on_piece=shown.append, on_end=lambda generation: generation)
    run(engine, asked)
    answers = [answer for (answer,) in asked.poll().answers]
    assert [answer.text[:3] for answer in answers] == ["one", "two"]
    assert [len(answer.logprobs) for answer in answers] == [5 + count, 7 + count]
    assert [piece.text for piece in shown][:2] == ["one", "two"]
    assert is_empty(engine)


def test_who_cannot_be_shown_the_prompt_again_is_dropped_before_anything_runs(llama, collector) -> None:
    def refuse(piece) -> None:
        raise Cancelled

    prompt = Prompt(ids=prompts(5)[0], text="one", limit=4)
    config = TextConfig(max_tokens=4, echo=True)
    gone = llama.handler._engine.submit((prompt,), config, collector(), on_piece=refuse, on_end=lambda generation: generation)
    with pytest.raises(Cancelled):
        gone.poll()
    assert is_empty(llama.handler._engine)


def test_an_idle_step_is_nothing(llama) -> None:
    llama.handler._engine.step()
    assert is_empty(llama.handler._engine)


def test_the_result_is_complete_without_a_runner(llama, collector) -> None:
    (ids,) = prompts(5)
    assert len(complete(llama.submit(ids, collector())).answers[0][0].tokens) == 12
