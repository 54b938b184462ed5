"""Nobody's answer depends on what another left in memory: blocks that are given out again are poisoned first.

The poison is NaN: a single number of it that is read, even with no weight, makes an answer break.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from handlers.decoding.engine import Engine
from openai_compat.errors import APIError

pytestmark = pytest.mark.usefixtures("ahead")


class Cancelled(Exception):
    """What a client that leaves becomes."""


@pytest.fixture
def prompts() -> Callable[..., list[tuple[int, ...]]]:
    def make(*lengths: int, seed: int = 3) -> list[tuple[int, ...]]:
        dice = random.Random(seed)
        return [tuple(dice.randrange(3, 400) for _ in range(length)) for length in lengths]

    return make


def poison(engine: Engine) -> None:
    """Every block that nobody holds, known prefixes too, which are forgotten for it."""
    free = list(engine._pool._free)
    engine._pool.forget(free)
    for store in (*engine._cache.keys.values(), *engine._cache.values.values()):
        store[free] = math.nan


def run(engine: Engine, *asked: Any) -> None:
    for _ in range(2000):
        if all(one.poll() is not None for one in asked):
            return
        engine.step()
        poison(engine)
    raise AssertionError("the requests do not end")


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "gpt-oss", "qwen3-moe"])
def test_answers_are_the_same_in_poisoned_memory(family, reload, collector, tokens, prompts, name: str) -> None:
    model = reload(family(name), block_size=4, step_tokens=16)
    engine = model.handler._engine
    asked = prompts(9, 1, 30, 5, 17)
    poison(engine)
    running = [model.submit(ids, collector(), salt=str(number)) for number, ids in enumerate(asked)]
    run(engine, *running)
    assert [tokens(one) for one in running] == [model.expected(ids, 12) for ids in asked]


def test_nor_do_they_where_sequences_fork_leave_and_give_way_to_others(family, reload, collector, tokens, prompts) -> None:
    model = reload(family("llama"), block_size=4, cache_bytes=1, step_tokens=16)
    engine = model.handler._engine
    first, second, third, fourth = prompts(30, 28, 20, 9)
    poison(engine)
    gone = model.submit(first, collector(checks=3, error=Cancelled), n=2)
    running = [model.submit(ids, collector(), max_tokens=30, salt="other") for ids in (second, third, fourth)]
    several = model.submit(fourth, collector(), n=3, temperature=1.2, seed=5)
    run(engine, *running, several)
    with pytest.raises(Cancelled):
        gone.poll()
    assert [tokens(one) for one in running] == [model.expected(ids, 30) for ids in (second, third, fourth)]
    alone = model.submit(fourth, collector(), n=3, temperature=1.2, seed=5, salt="alone")
    run(engine, alone)
    assert [one.tokens for one in several.poll().answers[0]] == [one.tokens for one in alone.poll().answers[0]]


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_broken_answer_left_behind_reaches_nobody_not_even_its_own_key(
    family, reload, collector, tokens, prompts, count: int
) -> None:
    """Numbers that are none arise in the middle of a prompt; its full blocks had names by then."""
    model = reload(family("llama"), block_size=4, cache_bytes=1)
    engine = model.handler._engine
    (bad,) = prompts(22)
    weight = engine._forward._model.get_input_embeddings().weight
    clean = weight[bad[9]].clone()
    weight.data[bad[9]] = math.nan
    broken = model.submit(bad, collector(), n=count)
    while broken_is_open(broken):
        engine.step()
    weight.data[bad[9]] = clean
    for ids in (bad, *prompts(22, 21, 20, seed=8)):
        again = model.submit(ids, collector())
        while again.poll() is None:
            engine.step()
        assert tokens(again) == model.expected(ids, 12)


def broken_is_open(asked: Any) -> bool:
    try:
        return asked.poll() is None
    except APIError:
        return False


def test_a_canary_of_one_key_is_in_no_answer_of_another(family, reload, collector, tokens, prompts) -> None:
    """Side by side and one after the other, with and without room; who has the same prompt runs it anew."""
    model = reload(family("llama"), block_size=4, cache_bytes=1)
    engine = model.handler._engine
    canary, other = prompts(40, 33, seed=11)
    for salt in ("alice", "bob"):
        together = [model.submit(canary, collector(), salt=salt), model.submit(other, collector(), salt=salt)]
        while any(one.poll() is None for one in together):
            engine.step()
        assert [one.poll().cached_tokens for one in together] == [0, 0]
        assert [tokens(one) for one in together] == [model.expected(ids, 12) for ids in (canary, other)]
