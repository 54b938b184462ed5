from __future__ import annotations

from collections import Counter

import pytest
import torch

from handlers.decoding.params import TextConfig
from handlers.decoding.sampler import Sampler

LOGITS = torch.log(torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]))


def sampler(*, prompt: tuple[int, ...] = (), index: int = 0, vocab: int = 5, **config) -> Sampler:
    return Sampler(TextConfig(**{"seed": 1, **config}), prompt, vocab_size=vocab, index=index, device=torch.device("cpu"))


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


def test_the_logits_are_left_as_they_are() -> None:
    logits = LOGITS.clone()
    config = {"logit_bias": {1: 5.0}, "presence_penalty": 1.0, "repetition_penalty": 1.5, "min_tokens": 1}
    sampler(stop_ids=frozenset({2}), prompt=(0,), **config).choose(logits)
    assert torch.equal(logits, LOGITS)
