"""Which target is asked first: shares, turns, loads, and keys that stay where they are."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from openai_compat.gateway.routing.policy import (
    LeastInFlight,
    Ordered,
    RoundRobin,
    Weighted,
    arranged,
    policy_of,
    ranked,
)


class Place(Struct):
    name: str
    weight: float = 1.0
    load: int = 0
    free: bool = True


def places(*weights: float) -> list[Place]:
    return [Place(name=chr(ord("a") + number), weight=weight) for number, weight in enumerate(weights)]


def names(entries: list[Place]) -> str:
    return "".join(entry.name for entry in entries)


def test_ordered_asks_the_first_and_then_the_others_in_their_order() -> None:
    assert names(arranged(Ordered(), places(1, 1, 1))) == "abc"


def test_a_target_that_is_left_alone_is_not_picked_and_comes_after_those_behind_it() -> None:
    entries = places(1, 1, 1)
    entries[0].free = False
    assert names(arranged(Ordered(), entries)) == "bca"


def test_when_none_is_free_there_is_an_order_all_the_same() -> None:
    entries = places(1, 1)
    for entry in entries:
        entry.free = False
    assert names(arranged(Ordered(), entries)) == "ab"


def test_round_robin_gives_everybody_a_turn() -> None:
    policy = RoundRobin()
    assert [names(arranged(policy, places(5, 1, 1))) for _ in range(4)] == ["abc", "bca", "cab", "abc"]


def test_weights_are_exact_in_each_few_requests_and_never_in_one_lump() -> None:
    policy = Weighted()
    picked = "".join(arranged(policy, places(5, 1, 1))[0].name for _ in range(14))
    assert picked == "aabacaa" * 2


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_after_one_round_each_had_its_weight(weights: list[int]) -> None:
    policy = Weighted()
    entries = places(*weights)
    seen = Counter(policy.pick(entries).name for _ in range(sum(weights)))
    assert seen == {entry.name: int(entry.weight) for entry in entries}


def test_a_weighted_target_that_was_away_does_not_get_all_that_it_missed() -> None:
    policy = Weighted()
    entries = places(1, 1)
    for _ in range(100):
        policy.pick(entries[:1])
    assert Counter(policy.pick(entries).name for _ in range(20)) == {"a": 10, "b": 10}


def test_of_two_targets_the_one_with_less_to_do_for_its_weight_is_picked() -> None:
    entries = places(1, 3)
    entries[0].load, entries[1].load = 2, 5
    assert LeastInFlight(random.Random(1)).pick(entries) is entries[1]
    entries[1].load = 9
    assert LeastInFlight(random.Random(1)).pick(entries) is entries[0]


def test_two_choices_keep_the_longest_queue_far_shorter_than_chance_does() -> None:
    chance, policy = random.Random(7), LeastInFlight(random.Random(7))
    by_chance, by_load = places(*[1] * 50), places(*[1] * 50)
    for _ in range(5000):
        chance.choice(by_chance).load += 1
        policy.pick(by_load).load += 1
    assert max(entry.load for entry in by_load) <= 103
    assert max(entry.load for entry in by_chance) >= 115


def test_least_in_flight_serves_in_proportion_to_the_weights() -> None:
    policy = LeastInFlight(random.Random(3))
    entries = places(1, 2, 4)
    for _ in range(7000):
        policy.pick(entries).load += 1
    assert [round(entry.load / 1000) for entry in entries] == [1, 2, 4]


@pytest.mark.parametrize("name", ["ordered", "round_robin", "least_in_flight", "weighted"])
def test_every_policy_of_the_configuration_arranges_everybody_once(name: str) -> None:
    policy = policy_of(name, random.Random(1))
    assert all(sorted(names(arranged(policy, places(3, 1, 2)))) == ["a", "b", "c"] for _ in range(20))


KEYS = [f"session {number}".encode() for number in range(6000)]


def test_the_same_key_has_the_same_order_whoever_asks() -> None:
    assert names(ranked(b"x", places(1, 1, 1, 1))) == names(ranked(b"x", places(1, 1, 1, 1)[::-1]))


def test_keys_are_shared_out_by_weight() -> None:
    seen = Counter(ranked(key, places(1, 2, 3))[0].name for key in KEYS)
    assert all(abs(seen[name] - share) < 150 for name, share in {"a": 1000, "b": 2000, "c": 3000}.items())


def test_losing_a_target_moves_only_its_keys_and_spreads_them() -> None:
    entries = places(1, 1, 1, 1)
    before = {key: ranked(key, entries)[0].name for key in KEYS}
    after = {key: ranked(key, entries[:3])[0].name for key in KEYS}
    assert all(after[key] == name for key, name in before.items() if name != "d")
    moved = Counter(after[key] for key, name in before.items() if name == "d")
    assert sum(moved.values()) == pytest.approx(1500, abs=150)
    assert min(moved.values()) > 400


@given(st.binary(), st.lists(st.floats(0.01, 1e6), min_size=2, max_size=8), st.data())
def test_who_is_left_keeps_its_order_when_anybody_goes(key: bytes, weights: list[float], data: st.DataObject) -> None:
    entries = places(*weights)
    gone = data.draw(st.sampled_from(entries))
    assert ranked(key, [e for e in entries if e is not gone]) == [e for e in ranked(key, entries) if e is not gone]
