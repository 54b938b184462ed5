"""Many waits with one timer: each is over at its time, and none that was ended is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from openai_compat.http.delays import Delay


class Waiting:
    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.began = time.monotonic()
        self.ended: float | None = None
        self._then = then

    def over(self) -> None:
        self.ended = time.monotonic()
        self._then()

    @property
    def took(self) -> float:
        return -1.0 if self.ended is None else self.ended - self.began


def test_each_is_over_after_its_own_time() -> None:
    async def go() -> list[Waiting]:
        delay, all_of_them = Delay(0.1), []
        for _ in range(5):
            all_of_them.append(Waiting())
            delay.begin(all_of_them[-1])
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.3)
        return all_of_them

    assert all(0.09 <= waiting.took < 0.3 for waiting in asyncio.run(go()))


def test_one_that_was_ended_is_not_over_even_by_one_that_is_over_at_the_same_time() -> None:
    async def go() -> tuple[Waiting, Waiting, Waiting]:
        delay = Delay(0.02)
        ended, other = Waiting(), Waiting()
        first = Waiting(lambda: delay.end(other))
        for waiting in (ended, first, other):
            delay.begin(waiting)
        delay.end(ended)
        await asyncio.sleep(0.1)
        return ended, first, other

    ended, first, other = asyncio.run(go())
    assert (ended.ended, other.ended) == (None, None)
    assert first.ended is not None


def test_one_that_begins_anew_waits_the_whole_time_again() -> None:
    async def go() -> Waiting:
        delay, waiting = Delay(0.1), Waiting()
        delay.begin(waiting)
        await asyncio.sleep(0.06)
        delay.begin(waiting)
        await asyncio.sleep(0.2)
        return waiting

    assert asyncio.run(go()).took >= 0.15


def test_whoever_begins_while_another_is_over_is_over_later() -> None:
    async def go() -> Waiting:
        delay, second = Delay(0.02), Waiting()
        delay.begin(Waiting(lambda: delay.begin(second)))
        await asyncio.sleep(0.2)
        return second

    assert asyncio.run(go()).took >= 0.03


def test_an_error_of_one_keeps_nobody_else_waiting() -> None:
    def fail() -> None:
        raise RuntimeError("of one")

    async def go() -> tuple[Waiting, list[str]]:
        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context["exception"])))
        delay, second = Delay(0.02), Waiting()
        delay.begin(Waiting(fail))
        delay.begin(second)
        await asyncio.sleep(0.1)
        return second, said

    second, said = asyncio.run(go())
    assert second.ended is not None
    assert said == ["of one"]


def test_an_event_loop_that_is_gone_leaves_nothing_behind() -> None:
    delay, stranded, later = Delay(0.02), Waiting(), Waiting()

    async def begin() -> None:
        delay.begin(stranded)

    async def wait() -> None:
        delay.begin(later)
        await asyncio.sleep(0.1)

    asyncio.run(begin())
    asyncio.run(wait())
    assert stranded.ended is None
    assert later.ended is not None


def test_the_first_of_thousands_to_go_costs_no_more_than_the_last() -> None:
    async def go() -> float:
        delay = Delay(0.2)
        many = [Waiting() for _ in range(20_000)]
        for waiting in many:
            delay.begin(waiting)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        while many[-1].ended is None:
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    assert asyncio.run(go()) < 2
