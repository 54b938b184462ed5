from __future__ import annotations

from collections import Counter

import pytest
import torch

from handlers.decoding.params import TextConfig
from handlers.decoding.sampler import BROKEN, Choices, choose

LOGITS = torch.log(torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]))


class One:
    """A batch of one row."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices

    def choose(self, logits: torch.Tensor) -> int:
        return choose(logits[None].clone(), [self.choices])[0]


def made(*, prompt: tuple[int, ...] = (), index: int = 0, vocab: int = 5, **config) -> Choices:
    return Choices(TextConfig(**{"seed": 1, **config}), prompt, vocab_size=vocab, index=index, device=torch.device("cpu"))


def sampler(**settings) -> One:
    return One(made(**settings))


def drawn(count: int = 400, logits: torch.Tensor = LOGITS, **config) -> Counter[int]:
    one = sampler(vocab=len(logits), **config)
    return Counter(one.choose(logits) for _ in range(count))


def test_temperature_zero_takes_the_likeliest_token() -> None:
    assert drawn(5, temperature=0.0) == {0: 5}


def test_draws_follow_the_distribution() -> None:
    counts = drawn(4000)
    for token, share in enumerate(LOGITS.exp().tolist()):
        assert counts[token] / 4000 == pytest.approx(share, abs=0.03)


def test_a_high_temperature_flattens_and_a_low_one_sharpens() -> None:
    assert drawn(temperature=5.0)[4] > drawn(temperature=1.0)[4] > drawn(temperature=0.3)[4]


def test_top_k_leaves_only_the_k_likeliest() -> None:
    assert set(drawn(top_k=2)) == {0, 1}


def test_top_p_leaves_the_smallest_set_that_reaches_it() -> None:
    assert set(drawn(top_p=0.6)) == {0, 1}
    assert set(drawn(top_p=0.0)) == {0}


def test_top_p_counts_within_what_top_k_left() -> None:
    assert set(drawn(top_k=2, top_p=0.57)) == {0}


def test_top_p_is_right_for_a_large_even_set() -> None:
    even = torch.zeros(4000)
    counts = drawn(3000, even, top_p=0.9)
    assert 1024 < len(counts) <= 3600
    assert len(drawn(10, torch.zeros(3001), top_p=0.0)) == 1


def test_top_p_drops_a_long_tail_that_is_too_light_to_matter() -> None:
    tail = torch.cat([LOGITS, torch.full((5000,), -20.0)])
    assert set(drawn(400, tail, top_p=0.999)) == {0, 1, 2, 3, 4}


def test_a_token_of_no_probability_is_never_drawn() -> None:
    assert set(drawn(400, torch.tensor([float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]))) == {1, 3}


def test_min_p_drops_what_is_too_unlikely_beside_the_likeliest() -> None:
    assert set(drawn(min_p=0.5)) == {0, 1}
    assert set(drawn(min_p=0.5, top_p=0.99)) == {0, 1}


def test_presence_penalty_moves_away_from_tokens_said_before_whatever_their_number() -> None:
    one = sampler(temperature=0.0, presence_penalty=0.5)
    assert [one.choose(LOGITS) for _ in range(4)] == [0, 1, 0, 0]


def test_frequency_penalty_grows_with_each_time() -> None:
    one = sampler(temperature=0.0, frequency_penalty=0.5)
    assert [one.choose(LOGITS) for _ in range(5)] == [0, 1, 0, 1, 2]


def test_repetition_penalty_counts_the_prompt_too() -> None:
    positive = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0])
    assert sampler(temperature=0.0, repetition_penalty=2.0, prompt=(0,)).choose(positive) == 1
    assert sampler(temperature=0.0, presence_penalty=2.0, prompt=(0,)).choose(positive) == 0


def test_logit_bias_can_force_and_forbid_a_token() -> None:
    assert sampler(temperature=0.0, logit_bias={4: 100.0}).choose(LOGITS) == 4
    assert 0 not in drawn(logit_bias={0: -100.0})


def test_min_tokens_forbids_stopping_until_then() -> None:
    one = sampler(temperature=0.0, stop_ids=frozenset({0}), min_tokens=2)
    assert [one.choose(LOGITS) for _ in range(3)] == [1, 1, 0]


def test_the_same_seed_draws_the_same_tokens_and_each_choice_others() -> None:
    def draws(index: int, seed: int | None = 7) -> list[int]:
        one = sampler(index=index, seed=seed)
        return [one.choose(LOGITS) for _ in range(40)]

    assert draws(0) == draws(0)
    assert draws(0) != draws(1)
    assert draws(0, None) != draws(0, None)
    assert draws(0, -(2**63)) == draws(0, -(2**63))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(3)
    first = drawn(20)
    state = torch.get_rng_state()
    torch.manual_seed(99)
    assert drawn(20) == first
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)


SETTINGS = [
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"top_k": 7},
    {"top_p": 0.4},
    {"top_k": 300, "top_p": 0.99},
    {"min_p": 0.2},
    {"presence_penalty": 1.0, "frequency_penalty": 0.5},
    {"repetition_penalty": 1.7, "prompt": (3, 4)},
    {"logit_bias": {9: 5.0}},
    {"temperature": 0.0, "repetition_penalty": 1.3, "logit_bias": {1: -100.0}},
    {"top_p": 0.999999, "temperature": 2.0},
    {"stop_ids": frozenset({2}), "min_tokens": 30},
]


def test_a_row_draws_the_same_alone_and_among_all_kinds_of_others() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randn(len(SETTINGS), 1000, generator=generator) * 4 for _ in range(40)]
    alone = []
    for row, settings in enumerate(SETTINGS):
        one = sampler(vocab=1000, index=row, **settings)
        alone.append([one.choose(logits[row]) for logits in steps])
    batch = [made(vocab=1000, index=row, **settings) for row, settings in enumerate(SETTINGS)]
    together = [choose(logits.clone(), batch) for logits in steps]
    assert [list(tokens) for tokens in zip(*together, strict=True)] == alone


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {}, {"top_p": 0.5}, {"top_k": 3}])
def test_logits_that_are_no_numbers_break_their_own_row_only(settings: dict) -> None:
    for bad in (float("nan"), float("inf")):
        logits = torch.zeros(2, 300)
        logits[0, 7] = bad
        logits[1, 3] = 100.0
        assert choose(logits, [made(vocab=300, **settings), made(vocab=300, **settings)]) == [BROKEN, 3]


class Odd:
    """A grammar of odd tokens that ends after three."""

    error = None

    def __init__(self) -> None:
        self.taken: list[int] = []

    @property
    def finished(self) -> bool:
        return len(self.taken) == 3

    def fill_mask(self, row: torch.Tensor) -> bool:
        row.fill_(-0x55555556)
        return True

    def accept(self, token: int) -> bool:
        self.taken.append(token)
        return True


def test_a_grammar_rules_its_own_row_only() -> None:
    grammar = Odd()
    ruled = Choices(TextConfig(temperature=0.0), (), vocab_size=300, index=0, device=torch.device("cpu"), matcher=grammar)
    free = made(vocab=300, temperature=0.0)
    logits = torch.zeros(2, 300)
    logits[:, 298] = 5.0
    logits[:, 297] = 4.0
    assert choose(logits.clone(), [ruled, free]) == [297, 298]
    assert grammar.taken == [297]
    assert not ruled.finished
    for _ in range(2):
        choose(logits.clone(), [ruled, free])
    assert ruled.finished


@pytest.mark.parametrize("config", [{"temperature": 0.0}, {}, {"top_p": 0.5}, {"min_p": 0.1}, {"top_k": 3}], ids=str)
def test_where_nothing_is_left_to_choose_nothing_is_chosen(config: dict[str, float]) -> None:
    """The next step may begin with the token before anybody has looked at it, so it must be one of the vocabulary's."""
    size = 313
    everything = made(vocab=size, min_tokens=1, stop_ids=frozenset(range(size)), **config)
    usual = made(vocab=size, **config)
    torch.manual_seed(0)
    broken, fine = choose(torch.randn(2, size), [everything, usual])
    assert broken == BROKEN
    assert 0 <= fine < size
