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
    step = window.add(0.0, 100)
    window.correct(step, 30.0, -60)
    assert (window.total(30.0), window.total(60.5), window.total(61.0)) == (40, 40, 0)
    window.correct(step, 61.0, -40)
    assert window.total(61.0) == 0
    window.correct(step, 61.0, 7)
    assert (window.total(61.0), window.total(121.5)) == (7, 7)


@pytest.mark.parametrize("back", [0.5, 3600.0])
def test_a_clock_that_goes_back_loses_nothing(back: float) -> None:
    window = minute()
    window.add(10_000.0, 5)
    window.add(10_000.0 - back, 6)
    assert window.total(10_000.0 - back) == 11
    assert window.total(10_061.0) == 0


@given(events, st.floats(0, 70))
def test_it_is_as_free_as_it_gets_when_it_says_so_and_not_before(gaps, later) -> None:
    window, now = minute(), 1000.0
    for gap, amount in gaps:
        now += gap
        window.add(now, amount)
    now += later
    clears = window.clears(now)
    assert (clears > 0) == (window.total(now) > 0)
    assert clears == 0 or window.total(now + clears - 0.01) > 0
    assert window.total(now + clears) == 0


def test_a_window_may_begin_before_the_zero_of_its_clock() -> None:
    """A machine that has just started recalls what its server did yesterday."""
    window = Window(step=900, steps=96)
    window.add(-80_000.0, 5)
    window.add(-3_000.0, 6)
    assert (window.total(100.0), window.total(7_300.0), window.total(90_000.0)) == (11, 6, 0)
