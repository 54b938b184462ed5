"""The account of one request: what is booked, for whom, and when."""

from __future__ import annotations

from openai_compat.config import Price
from openai_compat.gateway.metering.cost import UNIT, Counts

PRICE = Price(prompt=1.0, completion=2.0, cached=0.5, request=0.25)
MILLIONTH = UNIT // 10**6


def test_true_counts_are_booked_as_they_were_said_last(desk) -> None:
    d = desk()
    tally = d.open(price=PRICE)
    tally.used(10, 1)
    tally.used(100, 20, 40)
    tally.passed(5000)
    assert d.used() == {}
    tally.close(complete=True)
    cost = (60 * 1 + 40 // 2 + 20 * 2) * MILLIONTH + UNIT // 4
    assert d.used() == {"requests": 1, "prompt": 100, "cached": 40, "completion": 20, "cost": cost}


def test_an_answer_that_nobody_counted_is_estimated_and_marked(desk) -> None:
    d = desk()
    for complete in (True, False):
        tally = d.open("whole" if complete else "broken", stream=True)
        tally.passed(1000)
        tally.passed(400)
        tally.close(complete=complete)
    assert d.used("whole") == d.used("broken") == {"requests": 1, "prompt": 4, "completion": 7, "estimated": 11}


def test_what_a_target_refused_costs_nothing(desk) -> None:
    d = desk()
    tally = d.open(price=PRICE)
    tally.passed(300)
    tally.close(complete=True, failed=True)
    assert d.used() == {}


def test_what_a_failed_request_took_is_booked_where_it_was_counted(desk) -> None:
    d = desk()
    tally = d.open()
    report = tally.awaits()
    tally.close(complete=False, failed=True)
    report(Counts(5, 3))
    assert d.used() == {"prompt": 5, "completion": 3}


def test_a_request_that_went_nowhere_is_not_booked(desk) -> None:
    d = desk()
    tally = d.open()
    tally.aim("", Price())
    tally.close(complete=False)
    assert d.ledger.counters.since_start == {}


def test_an_account_waits_for_the_worker_after_it_was_closed(desk) -> None:
    d = desk()
    tally = d.open(price=PRICE)
    report = tally.awaits()
    tally.passed(100_000)
    tally.close(complete=False)
    assert d.used() == {}
    report(Counts(12, 3))
    assert d.used() == {"requests": 1, "prompt": 12, "completion": 3, "cost": 18 * MILLIONTH + UNIT // 4}


def test_a_report_before_the_end_of_the_answer_is_booked_once(desk) -> None:
    d = desk()
    tally = d.open()
    tally.awaits()(Counts(12, 3))
    tally.passed(100_000)
    tally.close(complete=True)
    tally.close(complete=True)
    assert d.used() == {"requests": 1, "prompt": 12, "completion": 3}


def test_a_worker_that_died_without_a_word_is_estimated(desk) -> None:
    d = desk()
    tally = d.open()
    report = tally.awaits()
    tally.passed(40)
    tally.close(complete=False)
    report(None)
    assert d.used() == {"requests": 1, "prompt": 4, "completion": 10, "estimated": 14}


def test_each_target_gets_what_it_used_and_the_last_one_the_request(desk) -> None:
    d = desk()
    tally = d.open()
    lost = tally.awaits()
    tally.aim("other", PRICE)
    found = tally.awaits()
    lost(Counts(4, 1))
    found(Counts(4, 2))
    tally.close(complete=True)
    assert d.used() == {"prompt": 4, "completion": 1}
    assert d.used(label="other") == {"requests": 1, "prompt": 4, "completion": 2, "cost": 8 * MILLIONTH + UNIT // 4}


def test_counts_of_a_target_that_was_given_up_do_not_stand_for_the_next_one(desk) -> None:
    d = desk()
    tally = d.open()
    tally.used(1000, 1000)
    tally.aim("other", Price())
    tally.close(complete=False, failed=True)
    assert d.used() == d.used(label="other") == {}


def test_nonsense_of_an_upstream_keeps_sums_numbers(desk) -> None:
    d = desk()
    tally = d.open()
    tally.used(-5, 10**30, 7)
    tally.close(complete=True)
    assert d.used() == {"requests": 1, "completion": 1 << 40}


def test_a_key_never_appears_beside_anothers_counts(desk) -> None:
    d = desk()
    d.spend(10, "a")
    d.spend(20, "b")
    assert (d.used("a")["completion"], d.used("b")["completion"]) == (6, 16)


def test_a_target_that_was_let_go_beside_the_one_that_answers_is_charged_the_prompt_by_estimate(desk) -> None:
    d = desk()
    tally = d.open(price=PRICE)
    tally.spent("loser", PRICE)
    tally.used(4, 2)
    tally.close(complete=True)
    assert d.used(label="loser") == {"prompt": 4, "estimated": 4, "cost": 4 * MILLIONTH}
    assert d.used() == {"requests": 1, "prompt": 4, "completion": 2, "cost": 8 * MILLIONTH + UNIT // 4}
