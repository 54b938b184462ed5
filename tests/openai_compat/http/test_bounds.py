"""How fast a body must come, and how much may be said about its chunks."""

from __future__ import annotations

from openai_compat.http.bounds import Limits, Pace

LIMITS = Limits(body_window=10.0, body_rate=1024, chunk_slack=1000)


def test_nothing_is_said_before_a_window_has_passed() -> None:
    assert Pace(LIMITS, 100.0).left(104.0, 0) == 6.0


def test_too_little_in_the_first_window_is_too_slow() -> None:
    assert Pace(LIMITS, 100.0).left(110.0, 10_239) == 0.0


def test_what_came_at_once_does_not_pay_for_the_windows_after_it() -> None:
    pace = Pace(LIMITS, 100.0)
    assert pace.left(110.0, 1_000_000) == 10.0
    assert pace.left(120.0, 1_000_020) == 0.0


def test_a_late_look_asks_for_as_much_more() -> None:
    assert Pace(LIMITS, 100.0).left(120.0, 15_000) == 0.0
    assert Pace(LIMITS, 100.0).left(120.0, 21_000) == 10.0


def test_a_pause_that_was_not_the_clients_is_not_counted() -> None:
    pace = Pace(LIMITS, 100.0)
    pace.restart(125.0, 50)
    assert pace.left(130.0, 50) == 5.0


def test_framing_is_weighed_against_the_body() -> None:
    assert not LIMITS.too_much_framing(1000, 0)
    assert LIMITS.too_much_framing(1001, 0)
    assert not LIMITS.too_much_framing(17_000, 1000)
    assert LIMITS.too_much_framing(17_001, 1000)
