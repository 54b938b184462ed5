"""What a key may use: each limit by itself, together, changed while it is used, and whatever the clock says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.config import Metering, Price
from openai_compat.errors import RateLimited, error_headers
from openai_compat.gateway.metering.cost import Counts, units
from openai_compat.gateway.metering.counters import Place, Sums
from openai_compat.gateway.metering.limits import Allowance, Hold
from openai_compat.gateway.metering.quota import Use
from openai_compat.gateway.order import Envelope
from openai_compat.grants import Grant, KeyLimits

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0
A_EURO = Price(request=1.0)


# ---------------------------------------------------------------- requests


def test_so_many_requests_a_minute_and_the_next_when_the_first_is_a_minute_old(desk, clock) -> None:
    d = desk(requests_per_minute=3)
    for _ in range(3):
        d.spend(4)
        clock.now += 10
    with pytest.raises(RateLimited, match="requests per minute: limit 3, used 3, requested 1") as caught:
        d.open()
    assert (caught.value.code, caught.value.retry_after) == ("rate_limit_exceeded", 31.0)
    clock.now += 31
    d.open()


def test_a_request_that_failed_counts_and_one_that_was_refused_does_not(desk, clock) -> None:
    d = desk(requests_per_minute=2, tokens_per_minute=100)
    d.open(max_tokens=4).close(complete=False, failed=True)
    for _ in range(5):
        with pytest.raises(RateLimited, match="tokens per minute"):
            d.open(max_tokens=1000)
    assert d.used_of("requests_per_minute") == 1
    d.spend(10)
    with pytest.raises(RateLimited, match="requests per minute"):
        d.open(max_tokens=1)


def test_of_a_thousand_at_once_exactly_as_many_as_may_are_admitted(desk) -> None:
    d = desk(requests_per_minute=100)
    admitted = 0
    for _ in range(1000):
        try:
            d.open()
            admitted += 1
        except RateLimited:
            pass
    assert admitted == 100


# ---------------------------------------------------------------- at the same time


def test_a_request_beyond_those_that_may_run_at_once_is_told_to_come_again_in_a_second(desk) -> None:
    d = desk(concurrent_requests=2)
    first, _ = d.open(), d.open()
    with pytest.raises(RateLimited, match="concurrent requests: limit 2, used 2, requested 1") as caught:
        d.open()
    assert caught.value.code == "concurrency_limit_exceeded"
    assert error_headers(caught.value) == {"retry-after": "1"}
    first.close(complete=True)
    d.open()


@pytest.mark.parametrize("end", ["answered", "failed", "broken off", "its worker died"])
def test_every_end_of_a_request_makes_room(desk, end) -> None:
    d = desk(concurrent_requests=1)
    for _ in range(3):
        tally = d.open()
        if end == "its worker died":
            report = tally.awaits()
            tally.close(complete=False)
            report(None)
        else:
            tally.close(complete=end == "answered", failed=end == "failed")
            tally.close(complete=True)


def test_a_request_whose_answer_has_gone_makes_room_though_its_worker_has_not_told_what_it_did(desk) -> None:
    d = desk(concurrent_requests=1)
    tally = d.open()
    report = tally.awaits()
    tally.hold.leave()
    second = d.open()
    tally.close(complete=True)
    report(Counts(1, 1))
    with pytest.raises(RateLimited):
        d.open()
    second.close(complete=True)
    d.open()


def test_who_left_early_keeps_the_place_until_the_model_has_let_go(desk) -> None:
    """Else one who asks and leaves in a loop would have any number of them at work."""
    d = desk(concurrent_requests=1)
    tally = d.open()
    report = tally.awaits()
    tally.close(complete=False)
    with pytest.raises(RateLimited):
        d.open()
    report(Counts(1, 1))
    d.open()


# ---------------------------------------------------------------- budget


def test_a_budget_is_all_that_a_key_may_ever_cost(desk, clock) -> None:
    d = desk()
    d.allow(budget=3.0)
    for _ in range(3):
        d.spend(4, price=A_EURO)
        clock.now += YEAR
    with pytest.raises(RateLimited, match="budget: limit 3, used 3, requested 1") as caught:
        d.open(price=A_EURO)
    assert caught.value.code == "insufficient_quota"
    assert error_headers(caught.value) == {"x-should-retry": "false"}
    d.open()  # what is free is not limited by it


def test_what_runs_is_reserved_of_the_budget_and_what_it_left_is_free_again(desk) -> None:
    d = desk()
    d.allow(budget=1.0)
    price = Price(completion=1.0)
    running = d.open(price=price, max_tokens=900_000)
    with pytest.raises(RateLimited, match=r"budget: limit 1, used 0\.9, requested 0\.2") as caught:
        d.open(price=price, max_tokens=200_000)
    assert error_headers(caught.value) == {"retry-after": "1"}, "what runs may leave some"
    running.used(4, 100_000)
    running.close(complete=True)
    assert d.used_of("budget") == units(0.1)
    d.open(price=price, max_tokens=900_000)


def test_a_key_that_gets_a_budget_has_spent_what_it_has_spent(desk) -> None:
    d = desk()
    d.spend(4, price=A_EURO)
    d.allow(budget=2.0)
    d.spend(4, price=A_EURO)
    with pytest.raises(RateLimited, match="budget"):
        d.open(price=A_EURO)
    d.allow(budget=3.0)
    d.open(price=A_EURO)


def test_what_earlier_servers_spent_is_part_of_it(desk) -> None:
    d = desk()
    d.ledger.spent = {"k": units(1.5)}
    d.allow(budget=2.0)
    with pytest.raises(RateLimited, match=r"used 1\.5"):
        d.open(price=A_EURO)


def test_a_key_that_takes_the_place_of_another_goes_on_where_that_one_was(desk) -> None:
    d = desk()
    d.grants["new"] = Grant(key_id="new", spent=units(1.0))
    d.spend(4, "new", price=A_EURO)
    d.grants["new"] = Grant(key_id="new", spent=units(2.0), limits=KeyLimits(budget=3.0))  # as it is read again
    d.spend(4, "new", price=A_EURO)
    with pytest.raises(RateLimited, match="used 3"):
        d.open("new", price=A_EURO)


def test_a_key_that_goes_on_for_another_is_told_what_that_one_spent_before_it_asks(desk) -> None:
    d = desk()
    (budget,) = d.ledger.standing(Grant(key_id="new", spent=units(2.0), limits=KeyLimits(budget=3.0)))
    assert (budget.name, budget.most, budget.used) == ("budget", units(3.0), units(2.0))


def test_work_that_was_admitted_before_is_spent_too(desk) -> None:
    d = desk()
    d.allow(budget=2.0)
    tally = d.ledger.account("k")
    tally.aim("m", Price(request=1.5))
    tally.close(complete=True)
    with pytest.raises(RateLimited, match=r"used 1\.5"):
        d.open(price=A_EURO)


def test_work_that_waited_takes_no_more_than_the_budget_has(desk) -> None:
    """As videos do: several were ordered while there was room for each of them alone."""
    d = desk()
    d.allow(budget=1.0, requests_per_minute=1)
    d.open(price=A_EURO).close(complete=False, failed=True)
    first = d.ledger.account("k", A_EURO)
    with pytest.raises(RateLimited, match="budget"):
        d.ledger.account("k", A_EURO)
    first.close(complete=True, failed=True)
    assert d.used_of("budget") == 0
    second = d.ledger.account("k", A_EURO)
    second.aim("m", A_EURO)
    second.close(complete=True)
    assert d.used_of("budget") == units(1.0)
    with pytest.raises(RateLimited, match="budget"):
        d.ledger.account("k", A_EURO)
    d.ledger.account("k").close(complete=True)  # what is free


# ---------------------------------------------------------------- whose limits


def test_a_keys_own_limits_stand_in_place_of_the_servers(desk) -> None:
    d = desk(requests_per_minute=1)
    d.allow("more", requests_per_minute=2)
    d.allow("none", requests_per_minute=0)
    d.allow("other", tokens_per_minute=100)
    for key, most in (("more", 2), ("other", 1), ("plain", 1)):
        for _ in range(most):
            d.open(key, max_tokens=4)
        with pytest.raises(RateLimited, match=f"requests per minute: limit {most}"):
            d.open(key, max_tokens=4)
    for _ in range(100):
        d.open("none")


@pytest.mark.parametrize(
    "name", ["requests_per_minute", "tokens_per_minute", "tokens_per_day", "cost_per_day", "concurrent_requests"]
)
def test_nought_lifts_each_limit_of_the_server(desk, name) -> None:
    d = desk(**{name: 1})
    d.allow(**{name: 0})
    for _ in range(10):
        d.open(price=A_EURO)


def test_a_key_may_have_limits_where_the_server_has_none(desk) -> None:
    d = desk()
    d.allow("a", requests_per_minute=1)
    d.spend(4, "a")
    with pytest.raises(RateLimited):
        d.open("a")
    for _ in range(10):
        d.open("b")


def test_limits_that_change_keep_what_was_counted(desk, clock) -> None:
    d = desk()
    d.allow(tokens_per_day=1000, requests_per_minute=10)
    d.spend(900)
    d.allow(tokens_per_day=2000, requests_per_minute=1)
    assert d.used_of("tokens_per_day") == 900
    with pytest.raises(RateLimited, match="requests per minute: limit 1, used 1"):
        d.open(max_tokens=1)
    d.allow(tokens_per_day=500)
    with pytest.raises(RateLimited, match="tokens per day: limit 500, used 900"):
        d.open(max_tokens=1)
    clock.now += DAY + HOUR
    d.open(max_tokens=1)


def test_a_limit_that_was_taken_away_and_given_back_is_as_used_as_before(desk) -> None:
    d = desk()
    d.allow(tokens_per_day=100)
    d.spend(90)
    d.allow()
    d.allow(tokens_per_day=100)
    with pytest.raises(RateLimited, match="used 90"):
        d.open(max_tokens=20)


def test_a_request_that_began_under_other_limits_is_settled_where_it_was_reserved(desk) -> None:
    d = desk()
    d.allow(tokens_per_minute=100)
    running = d.open(max_tokens=90)
    d.allow(tokens_per_day=1000, concurrent_requests=1)
    d.allow(tokens_per_minute=200, tokens_per_day=1000)
    assert d.used_of("tokens_per_minute") == 94
    running.used(4, 6)
    running.close(complete=True)
    assert (d.used_of("tokens_per_minute"), d.used_of("tokens_per_day")) == (10, 0)


def test_a_new_configuration_changes_the_limits_of_those_who_have_none_of_their_own(desk) -> None:
    d = desk(requests_per_minute=1)
    d.allow("own", requests_per_minute=3)
    d.spend(4, "a")
    d.spend(4, "own")
    d.ledger.renew(Metering(requests_per_minute=2))
    for key, left in (("a", 1), ("own", 2)):
        for _ in range(left):
            d.open(key)
        with pytest.raises(RateLimited):
            d.open(key)
    d.ledger.renew(Metering())
    d.open("a")
    with pytest.raises(RateLimited):
        d.open("own")


def test_keys_that_are_gone_leave_nothing_behind(desk, clock) -> None:
    d = desk(requests_per_minute=10, tokens_per_day=10_000, concurrent_requests=1)
    running = d.open("running")
    for number in range(3000):
        d.spend(4, f"key {number}")
        clock.now += 600
    assert len(d.ledger._allowances) < 600
    with pytest.raises(RateLimited, match="concurrent"):
        d.open("running")
    running.close(complete=True)


# ---------------------------------------------------------------- restarts and clocks


def test_a_keys_own_day_goes_on_after_a_restart(desk, clock) -> None:
    d = desk()
    hour = int(clock.now // HOUR)
    d.ledger.recall({Place("k", "m", hour - 2): Sums(1, 500, 0, 400), Place("j", "m", hour - 2): Sums(1, 500, 0, 400)})
    d.allow(tokens_per_day=1000, tokens_per_minute=10_000)
    assert (d.used_of("tokens_per_day"), d.used_of("tokens_per_minute")) == (900, 0)
    clock.now += 23.1 * HOUR
    d.allow("j", tokens_per_day=1000)
    assert (d.used_of("tokens_per_day"), d.used_of("tokens_per_day", "j")) == (0, 0)


@pytest.mark.parametrize("jump", [-YEAR, -5 * HOUR, -30, 30, 5 * HOUR, YEAR])
def test_a_clock_that_is_set_neither_lifts_nor_prolongs_a_limit(desk, clock, jump) -> None:
    d = desk(requests_per_minute=1, tokens_per_day=100)
    d.spend(90)
    clock.now += jump
    d.steady.now -= jump  # which nobody sets
    with pytest.raises(RateLimited, match="tokens per day"):
        d.open(max_tokens=20)
    with pytest.raises(RateLimited, match="requests per minute"):
        d.open(max_tokens=1)
    clock.now += 61
    d.open(max_tokens=1)
    clock.now += DAY + 900
    d.open(max_tokens=90)


def test_what_was_kept_by_a_clock_that_was_a_year_ahead_locks_nobody_out(desk, clock) -> None:
    d = desk(tokens_per_day=100)
    hour = int(clock.now // HOUR)
    d.ledger.recall({Place("a", "m", hour + 3): Sums(1, 90), Place("b", "m", hour + 8760): Sums(1, 90)})
    assert (d.used_of("tokens_per_day", "a"), d.used_of("tokens_per_day", "b")) == (90, 0)
    clock.now += DAY + 900
    assert d.used_of("tokens_per_day", "a") == 0


# ---------------------------------------------------------------- what clients are told


def told(hold: Hold | None) -> dict[str, str]:
    assert hold is not None
    return {name.decode().removeprefix("x-ratelimit-"): value.decode() for name, value in hold.headers}


def test_an_answer_tells_what_is_left_with_itself_counted(desk, clock) -> None:
    d = desk(requests_per_minute=10, tokens_per_minute=1000, tokens_per_day=10**6, cost_per_day=5.0, concurrent_requests=4)
    d.spend(100)
    clock.now += 30
    assert told(d.open(max_tokens=296).hold) == {
        "limit-requests": "10",
        "remaining-requests": "8",
        "reset-requests": "1m1s",
        "limit-tokens": "1000",
        "remaining-tokens": "600",
        "reset-tokens": "1m1s",
    }


def test_only_limits_that_there_are_are_told_and_of_tokens_the_days_where_no_minute_has_one(desk) -> None:
    assert told(desk(concurrent_requests=1, cost_per_day=1).open().hold) == {}
    assert set(told(desk(requests_per_minute=1).open().hold)) == {"limit-requests", "remaining-requests", "reset-requests"}
    assert told(desk(tokens_per_day=1000).open(max_tokens=96).hold) == {
        "limit-tokens": "1000",
        "remaining-tokens": "900",
        "reset-tokens": "24h15m0s",
    }


def test_what_is_left_is_never_told_as_less_than_nothing(desk) -> None:
    d = desk(requests_per_minute=10, tokens_per_minute=100)
    tally = d.open(max_tokens=10)
    tally.used(90, 1000)
    tally.close(complete=True)
    with pytest.raises(RateLimited) as caught:
        d.open(max_tokens=1)
    assert error_headers(caught.value)["x-ratelimit-remaining-tokens"] == "0"
    assert error_headers(caught.value)["x-ratelimit-remaining-requests"] == "9"


# ---------------------------------------------------------------- whatever happens

requests = st.tuples(st.floats(0, 40), st.integers(0, 60), st.floats(0, 1), st.integers(0, 5), st.integers(0, 3))
LIMITS: dict[str, Any] = {
    "requests_per_minute": 5,
    "tokens_per_minute": 100,
    "tokens_per_day": 400,
    "cost_per_day": 600e-12,
    "concurrent_requests": 3,
    "budget": 900e-12,
}


@given(st.lists(requests, max_size=60))
def test_no_sequence_of_requests_takes_more_than_any_limit_allows(steps) -> None:
    """Each comes after a gap, reserves, uses a share of it, and ends after some others have come."""
    spent: dict[str, int] = {}
    allowance = Allowance(Grant(key_id="k", limits=KeyLimits(**LIMITS)), Metering(), spent)
    now = 1000.0
    running: list[tuple[Hold, int, int]] = []
    admitted: list[list[float]] = []
    for gap, tokens, share, price, ends in steps:
        now += gap
        try:
            hold = allowance.reserve(now, tokens=tokens, cost=tokens * price)
        except RateLimited:
            pass
        else:
            admitted.append([now, tokens, tokens * price])
            running.append((hold, len(admitted) - 1, int(tokens * share)))
        for _ in range(min(ends, len(running))):
            hold, number, used = running.pop(0)
            cost = used * hold.cost // hold.tokens if hold.tokens else 0
            spent["k"] = spent.get("k", 0) + cost
            hold.settle(now, tokens=used, cost=cost)
            admitted[number][1:] = used, cost
        for standing in allowance.standing(now):
            assert 0 <= standing.used <= standing.most
    assert allowance.running == len(running) <= 3
    for begin, *_ in admitted:
        minute = [each for each in admitted if begin <= each[0] < begin + 60]
        day = [each for each in admitted if begin <= each[0] < begin + DAY]
        assert len(minute) <= 5
        assert sum(tokens for _, tokens, _ in minute) <= 100
        assert sum(tokens for _, tokens, _ in day) <= 400
        assert sum(cost for *_, cost in day) <= 600
    assert sum(cost for *_, cost in admitted) <= 900


@given(st.lists(st.tuples(st.sampled_from("rsclL"), st.integers(0, 50), st.floats(0, 90)), max_size=80))
def test_nothing_is_ever_less_than_nothing_and_all_that_ends_leaves_nothing_running(steps) -> None:
    """Reserving, settling, leaving, charging, and limits that come and go, in any order."""
    grants = [Grant(key_id="k", limits=KeyLimits(**LIMITS)), Grant(key_id="k", limits=KeyLimits(tokens_per_minute=50))]
    spent: dict[str, int] = {}
    allowance = Allowance(grants[0], Metering(), spent)
    now, holds = 0.0, []
    for what, amount, gap in steps:
        now += gap
        if what == "r":
            try:
                holds.append(allowance.reserve(now, tokens=amount, cost=amount))
            except RateLimited:
                continue
        elif what == "L":
            allowance.adopt(grants[amount % 2], Metering())
        elif what == "c":
            allowance.charge(Use(now, amount, amount))
        elif holds and what == "s":
            holds.pop(amount % len(holds)).settle(now, tokens=amount, cost=amount)
        elif holds and what == "l":
            holds[amount % len(holds)].leave()
        assert all(standing.used >= 0 for standing in allowance.standing(now))
        assert 0 <= allowance.running <= len(holds)
    for hold in holds:
        hold.settle(now, tokens=0, cost=0)
    assert allowance.running == 0
    assert allowance.idle(now + 2 * DAY)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=30))
def test_what_is_settled_as_it_was_reserved_stays_as_it_was(pairs) -> None:
    allowance = Allowance(Grant(), Metering(tokens_per_day=10**12, cost_per_day=1e12), {})
    for tokens, cost in pairs:
        hold = allowance.reserve(0.0, tokens=tokens, cost=cost)
        before = list(allowance.standing(0.0))
        hold.settle(0.0, tokens=tokens, cost=cost)
        assert list(allowance.standing(0.0)) == before
    used = {standing.name: standing.used for standing in allowance.standing(0.0)}
    assert used == {"tokens_per_day": sum(tokens for tokens, _ in pairs), "cost_per_day": sum(cost for _, cost in pairs)}


def test_an_account_that_cannot_be_opened_reserves_nothing(desk) -> None:
    d = desk(concurrent_requests=1, requests_per_minute=10)
    with pytest.raises(AttributeError):
        d.ledger.open(d.grant(), path="/v1/chat/completions", body=b"{}", envelope=Envelope(), choices=[object()])
    assert (d.used_of("concurrent_requests"), d.used_of("requests_per_minute")) == (0, 0)
