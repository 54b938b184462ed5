"""Who is let in, by numbers and by how long requests wait to be begun; with a clock of our own."""

from __future__ import annotations

import asyncio
import logging

import pytest

from openai_compat.http import crowd as module
from openai_compat.http.crowd import Crowd


class Clock:
    """``share`` of its time is this thread's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 0.0
        self.share = 1.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.worked

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.worked += seconds * self.share


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def row(crowd: Crowd, clock: Clock, size: int, step: float) -> int:
    """So many requests come between two looks at the sockets, and are begun one after another; how many were let in."""

    async def app(scope, receive, send) -> None:
        clock.work(step)

    counted = crowd.around(app)
    let_in = sum(not crowd.objection() for _ in range(size))

    async def begin() -> None:
        for _ in range(let_in):
            await counted(None, None, None)  # type: ignore[arg-type]

    asyncio.run(begin())
    return let_in


def a_crowd() -> Crowd:
    return Crowd(connections=10, in_flight=1000)


def test_a_connection_too_many_is_counted_until_another_leaves(clock) -> None:
    crowd = a_crowd()
    for _ in range(10):
        assert not crowd.full()
        crowd.arrive()
    assert crowd.full()
    assert crowd.refused == 1
    crowd.leave()
    assert not crowd.full()


def test_connections_that_only_arrive_count_too_until_they_have_had_their_time(clock) -> None:
    crowd = a_crowd()
    assert [crowd.full() for _ in range(11)] == [False] * 10 + [True]
    clock.now += 5.1
    assert not crowd.full()


def test_requests_at_once_have_a_most_that_can_be_changed() -> None:
    crowd = Crowd(connections=1, in_flight=2)
    assert [bool(crowd.objection()) for _ in range(3)] == [False, False, True]
    crowd.allow(3)
    assert not crowd.objection()


def test_a_request_counts_until_its_end_however_it_ends() -> None:
    crowd = Crowd(connections=1, in_flight=1)

    async def app(scope, receive, send) -> None:
        raise ValueError("broken")

    assert not crowd.objection()
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(crowd.around(app)(None, None, None))  # type: ignore[arg-type]
    assert not crowd.objection()


def test_many_who_come_at_one_moment_are_let_in(clock) -> None:
    crowd = a_crowd()
    assert row(crowd, clock, 500, 0.001) == 500
    assert row(crowd, clock, 500, 0.001) == 500


def test_when_one_long_row_follows_another_only_a_few_are_let_in(clock) -> None:
    crowd = a_crowd()
    let_in = [row(crowd, clock, 200, 0.001) for _ in range(10)]
    assert let_in[0] == 200
    assert let_in[-1] == 16


def test_once_all_that_come_can_be_let_in_it_is_over(clock) -> None:
    crowd = a_crowd()
    for _ in range(10):
        row(crowd, clock, 200, 0.001)
    assert [row(crowd, clock, 10, 0.001) for _ in range(3)] == [10, 10, 10]
    assert row(crowd, clock, 200, 0.001) == 16  # a moment without long rows may only be one in which those told are silent
    assert [row(crowd, clock, 10, 0.001) for _ in range(30)] == [10] * 30
    assert row(crowd, clock, 200, 0.001) == 200


def test_under_pressure_who_has_waited_is_let_in_only_where_there_are_not_enough_others(clock) -> None:
    crowd = a_crowd()
    assert not crowd.objection(late=True)
    crowd = a_crowd()
    for _ in range(10):
        row(crowd, clock, 200, 0.001)
    assert crowd.objection(late=True)
    assert not crowd.objection()
    crowd = a_crowd()
    for _ in range(10):
        row(crowd, clock, 200, 0.001)
    row(crowd, clock, 2, 0.001)
    row(crowd, clock, 2, 0.001)
    assert not crowd.objection(late=True)


def test_rows_that_are_long_because_others_have_the_processor_are_no_reason(clock) -> None:
    crowd = a_crowd()
    clock.share = 0.25
    assert [row(crowd, clock, 60, 0.001) for _ in range(40)] == [60] * 40
    assert min(row(crowd, clock, 120, 0.001) for _ in range(40)) == 16


def test_one_long_step_is_no_reason(clock) -> None:
    crowd = a_crowd()
    for _ in range(50):
        assert row(crowd, clock, 2, 0.015) == 2


def test_long_rows_with_time_between_them_are_no_reason(clock) -> None:
    crowd = a_crowd()
    for _ in range(10):
        assert row(crowd, clock, 200, 0.001) == 200
        clock.now += 1.0


def test_the_log_tells_of_it_now_and_then(clock, caplog) -> None:
    crowd = Crowd(connections=1, in_flight=1)
    with caplog.at_level(logging.WARNING, logger="openai_compat.http"):
        for _ in range(1000):
            crowd.refuse("too many")
        clock.now += 11
        crowd.refuse("too many")
    assert [record.getMessage() for record in caplog.records] == [
        "clients are turned away, 1 so far: too many",
        "clients are turned away, 1001 so far: too many",
    ]
