"""Limits: reserved at the door, corrected at the end."""

from __future__ import annotations

import pytest

from openai_compat.config import Price
from openai_compat.errors import RateLimited, error_headers
from openai_compat.gateway.metering.cost import Counts, units
from openai_compat.gateway.metering.counters import Place, Sums

HOUR = 3600.0


def test_more_than_a_minutes_tokens_is_refused_until_the_minute_has_passed(desk, clock) -> None:
    d = desk(tokens_per_minute=100)
    d.spend(60)
    clock.now += 20
    with pytest.raises(RateLimited, match="tokens per minute: limit 100, used 60, requested 54") as caught:
        d.open(max_tokens=50)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.retry_after == 41.0
    assert error_headers(caught.value) == {
        "retry-after": "41",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "40",
        "x-ratelimit-reset-tokens": "41s",
    }
    clock.now += caught.value.retry_after
    d.open(max_tokens=50)


def test_a_reservation_counts_while_the_request_runs_and_gives_back_what_it_did_not_use(desk) -> None:
    d = desk(tokens_per_minute=100)
    running = d.open(max_tokens=90)
    with pytest.raises(RateLimited):
        d.open(max_tokens=10)
    running.used(4, 6)
    running.close(complete=True)
    d.open(max_tokens=80)


def test_a_reservation_of_a_local_request_is_held_until_its_worker_has_done(desk) -> None:
    d = desk(tokens_per_minute=100)
    left = d.open(max_tokens=90)
    report = left.awaits()
    left.close(complete=False)
    with pytest.raises(RateLimited):
        d.open(max_tokens=10)
    report(Counts(4, 6))
    d.open(max_tokens=80)


def test_what_was_refused_reserves_nothing(desk) -> None:
    d = desk(tokens_per_minute=100, tokens_per_day=50)
    for _ in range(5):
        with pytest.raises(RateLimited):
            d.open(max_tokens=60)
    d.open(max_tokens=46)


def test_a_request_that_is_too_large_at_all_is_not_told_to_come_again(desk) -> None:
    with pytest.raises(RateLimited, match="too large") as caught:
        desk(tokens_per_minute=100).open(max_tokens=1000)
    assert (caught.value.retry_after, caught.value.retry) == (None, False)


def test_a_day_is_the_last_day_and_not_a_date(desk, clock) -> None:
    d = desk(tokens_per_day=1000)
    d.spend(900)
    clock.now += 23 * HOUR
    with pytest.raises(RateLimited, match="tokens per day") as caught:
        d.open(max_tokens=200)
    assert caught.value.code == "insufficient_quota"
    told = error_headers(caught.value)
    assert (told["retry-after"], told["x-should-retry"], told["x-ratelimit-reset-tokens"]) == ("120", "false", "1h15m0s")
    clock.now += 1.25 * HOUR
    d.open(max_tokens=200)


def test_cost_is_limited_by_the_dearest_that_a_request_may_come_to(desk) -> None:
    d = desk(cost_per_day=1.0)
    price = Price(prompt=0.0, completion=10.0)
    d.spend(60_000, price=price)
    with pytest.raises(RateLimited, match=r"cost per day: limit 1, used 0.59996, requested 0.5"):
        d.open(price=price, max_tokens=50_000)
    d.open(price=price, max_tokens=40_000)
    d.open(max_tokens=10**9)  # what is free is not limited by cost


def test_each_key_has_its_own_limits(desk) -> None:
    d = desk(tokens_per_minute=100)
    d.spend(100, "a")
    d.spend(100, "b")
    with pytest.raises(RateLimited):
        d.spend(10, "a")


def test_without_limits_nothing_is_refused_and_no_windows_are_kept(desk) -> None:
    d = desk()
    d.spend(10**12)
    assert d.ledger.standing(d.grant()) == ()
    assert d.ledger._allowances == {}
    assert d.open().hold is None


def test_what_earlier_servers_counted_limits_the_day_and_not_the_minute(desk, clock) -> None:
    d = desk(tokens_per_minute=100, tokens_per_day=1000)
    hour = int(clock.now // HOUR)
    d.ledger.recall({Place("k", "m", hour - 2): Sums(1, 500, 0, 400), Place("k", "m", hour): Sums(1, 50)})
    with pytest.raises(RateLimited, match="tokens per day: limit 1000, used 950"):
        d.open(max_tokens=60)
    clock.now += 22.9 * HOUR
    with pytest.raises(RateLimited):
        d.open(max_tokens=60)
    clock.now += 0.2 * HOUR
    d.open(max_tokens=60)


def test_an_estimate_that_was_too_low_is_made_up_for(desk) -> None:
    d = desk(tokens_per_minute=100)
    tally = d.open(max_tokens=10)
    tally.used(90, 10)
    tally.close(complete=True)
    with pytest.raises(RateLimited):
        d.open(max_tokens=1)
    assert d.used_of("tokens_per_minute") == 100


def test_an_estimate_is_the_same_after_the_request_was_forgotten(desk) -> None:
    d = desk(tokens_per_minute=100_000)
    for forgets in (False, True):
        tally = d.open(key=str(forgets), stream=True)
        tally.passed(1000)
        if forgets:
            tally.forget()
            tally.forget()
        tally.close(complete=True)
    assert d.used_of("tokens_per_minute", "True") == d.used_of("tokens_per_minute", "False") == 4 + 5


def test_the_cost_of_a_day_is_exact(desk) -> None:
    d = desk(cost_per_day=0.3)
    for _ in range(3):
        d.spend(100_004, price=Price(completion=1.0))
    assert d.used_of("cost_per_day") == units(0.3)


def test_work_that_was_admitted_before_is_not_refused_but_counts(desk) -> None:
    d = desk(tokens_per_minute=100)
    tally = d.ledger.account("k")
    tally.aim("m", Price())
    tally.awaits()(Counts(150, 0))
    tally.close(complete=True)
    assert d.used() == {"requests": 1, "prompt": 150}
    with pytest.raises(RateLimited):
        d.open(max_tokens=1)
