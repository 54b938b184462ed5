"""Work gives way where it says so, and its end is seen however it comes."""

from __future__ import annotations

import contextvars
import threading

from handlers.decoding.turns import Turns


def test_work_goes_on_only_while_its_caller_waits() -> None:
    seen: list[str] = []

    def work(give_way) -> None:
        for number in range(2):
            seen.append(f"work {number}")
            give_way()

    turns = Turns(work)
    for number in range(3):
        seen.append(f"caller {number}")
        turns.resume()
    assert seen == ["caller 0", "work 0", "caller 1", "work 1", "caller 2"]
    assert turns.ended


def test_several_works_take_turns_and_leave_no_thread(monkeypatch) -> None:
    before = threading.active_count()
    order: list[int] = []

    def work(number: int, give_way) -> None:
        for _ in range(3):
            order.append(number)
            give_way()

    works = [Turns(lambda give_way, number=number: work(number, give_way)) for number in range(3)]
    while not all(turns.ended for turns in works):
        for turns in works:
            turns.resume()
    assert order == [0, 1, 2] * 3
    assert threading.active_count() == before


def test_the_callers_context_is_the_works() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    name.set("caller")
    seen: list[str] = []
    Turns(lambda give_way: seen.append(name.get())).resume()
    assert seen == ["caller"]
