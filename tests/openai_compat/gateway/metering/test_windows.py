"""A window never says less than there was in any stretch of its length, and forgets what is older."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.gateway.metering.windows import Window

events = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60)
MOST = 100


def minute() -> Window:
    return Window(step=1, steps=60)


@given(events)
def test_no_stretch_of_a_minute_holds_more_than_was_let_through(gaps) -> None:
    window, now, passed = minute(), 1000.0, []
    for gap, amount in gaps:
        now += gap
        if window.total(now) + amount <= MOST:
            window.add(now, amount)
            passed.append((now, amount))
    for begin, _ in passed:
        assert sum(amount for when, amount in passed if begin <= when < begin + 60) <= MOST


@given(events, st.floats(0, 200))
def test_the_total_is_no_less_than_the_last_minute_and_no_more_than_a_step_beyond(gaps, later) -> None:
    window, now, seen = minute(), 1000.0, []
    for gap, amount in gaps:
        now += gap
        window.add(now, amount)
        seen.append((now, amount))
    now += later
    least = sum(amount for when, amount in seen if when > now - 60)
    most = sum(amount for when, amount in seen if when > now - 61)
    assert least <= window.total(now) <= most


@given(events, st.integers(1, 200))
def test_after_the_wait_there_is_room(gaps, wanted) -> None:
    window, now = minute(), 1000.0
    for gap, amount in gaps:
        now += gap
        window.add(now, amount)
    before = window.total(now)
    wait = window.wait(now, wanted)
    if math.isinf(wait):
        assert wanted > before
    else:
        assert wait == 0 or window.total(now + wait - 0.01) > before - wanted
        assert window.total(now + wait) <= before - wanted


def test_a_correction_within_the_minute_changes_the_past_and_one_after_it_only_adds() -> None:
    window = minute()
    slot = window.add(0.0, 100)
    window.correct(slot, 30.0, -60)
    assert (window.total(30.0), window.total(60.5), window.total(61.0)) == (40, 40, 0)
    window.correct(slot, 61.0, -40)
    assert window.total(61.0) == 0
    window.correct(slot, 61.0, 7)
    assert (window.total(61.0), window.total(121.5)) == (7, 7)


@pytest.mark.parametrize("back", [0.5, 3600.0])
def test_a_clock_that_goes_back_loses_nothing(back: float) -> None:
    window = minute()
    window.add(10_000.0, 5)
    window.add(10_000.0 - back, 6)
    assert window.total(10_000.0 - back) == 11
    assert window.total(10_061.0) == 0
