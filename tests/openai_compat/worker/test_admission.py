"""Who may wait for a model, and who is told at once to come again."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import pytest

from openai_compat.errors import RateLimited
from openai_compat.worker.admission import Admission


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Job(NamedTuple):
    queued: float
    began: float


class Model:
    """An admission, and the jobs that it let in."""

    def __init__(self, *, slots: int = 1, usual: float = 0.0, max_wait: float = 60.0, max_waiting: int = 256) -> None:
        self.clock = Clock()
        self.admission = Admission(max_wait, max_waiting, clock=self.clock)
        self.admission.slots = slots
        self.jobs: list[Job] = []
        self.usual = usual
        if usual:
            self.admission.ended(usual)

    def ask(self, patience: float = 600.0) -> float | None:
        """None where it was let in, else the seconds after which to come again."""
        try:
            self.admission.check(self.jobs, patience)
        except RateLimited as error:
            return error.retry_after
        slots, now = self.admission.slots, self.clock.now
        turn = self.jobs[-slots].began + self.usual if len(self.jobs) >= slots else now
        self.jobs.append(Job(queued=now, began=turn))
        return None

    def fill(self) -> int:
        """How many it takes at once."""
        before = len(self.jobs)
        while self.ask() is None:
            pass
        return len(self.jobs) - before

    def serve(self, times: float, seconds: float) -> list[float]:
        """The waits of those who came while ``times`` as many come as can be done, at random; inf for the refused."""
        waits, until = [], self.clock.now + seconds
        chance = random.Random(7)
        while self.clock.now < until:
            self.clock.now += chance.expovariate(times * self.admission.slots / self.usual)
            while self.jobs and self.jobs[0].began + self.usual <= self.clock.now:
                self.jobs.pop(0)
                self.admission.ended(self.usual)
            waits.append(self.jobs[-1].began - self.clock.now if self.ask() is None else math.inf)
        return waits


SIZES = pytest.mark.parametrize(("slots", "usual"), [(1, 0.05), (1, 4.0), (8, 1.0), (64, 5.0)])


@SIZES
def test_at_four_times_capacity_nobody_waits_as_long_as_a_request_takes_once_the_queue_stands(slots, usual):
    model = Model(slots=slots, usual=usual)
    model.serve(4, max(20.0, 16 * usual))
    waits = [wait for wait in model.serve(4, 40 * usual) if wait < math.inf]
    assert waits
    assert max(waits) <= 0.5 * usual * 1.001


@SIZES
def test_an_overload_keeps_all_slots_busy(slots, usual):
    model = Model(slots=slots, usual=usual)
    model.serve(4, max(20.0, 16 * usual))
    served = [wait for wait in model.serve(4, 40 * usual) if wait < math.inf]
    assert len(served) > 0.9 * 40 * slots


@SIZES
def test_half_of_what_a_model_can_do_is_hardly_ever_refused(slots, usual):
    waits = Model(slots=slots, usual=usual).serve(0.5, 400 * usual)
    assert waits.count(math.inf) <= (0.08 if slots == 1 else 0) * len(waits)


@pytest.mark.parametrize(
    ("slots", "usual", "most", "taken"),
    [(1, 1.0, 1000, 61), (8, 1.0, 1000, 488), (1, 0.01, 255, 256), (1, 90.0, 1000, 2)],
)
def test_a_burst_may_wait_for_as_long_as_is_set_and_one_always_for_a_turn(slots, usual, most, taken):
    assert Model(slots=slots, usual=usual, max_waiting=most).fill() == taken


def test_when_nobody_was_refused_for_a_while_a_burst_is_one_again():
    model = Model(usual=1.0)
    model.serve(4, 30.0)
    assert len(model.jobs) <= 2
    model.jobs.clear()
    model.clock.now += 5.0
    assert model.fill() == 61


def test_whoever_is_refused_is_told_when_its_turn_would_have_come():
    model = Model(usual=4.0, max_wait=10.0)
    assert model.fill() == 3
    model.clock.now += 1.0
    assert model.ask() == 11.0


def test_nobody_is_let_in_who_would_be_gone_before_its_turn():
    model = Model(usual=4.0)
    for _ in range(4):
        model.ask()
    assert model.ask(patience=10.0) == 16.0
    assert model.ask(patience=20.0) is None


def test_before_anything_is_known_of_a_model_only_the_number_and_the_first_in_line_count():
    model = Model(max_waiting=5)
    assert model.fill() == 6
    del model.jobs[3:]
    model.clock.now += 59.0
    assert model.ask() is None
    model.clock.now += 2.0
    assert model.ask() == 1.0


def test_what_requests_take_is_learned_anew():
    model = Model(usual=10.0, max_wait=1.0)
    assert model.fill() == 2
    for _ in range(60):
        model.admission.ended(0.01)
    assert model.ask() is None
