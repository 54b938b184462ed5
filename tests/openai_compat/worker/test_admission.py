"""Who may wait for a model, and who is told at once to come again."""

from __future__ import annotations

import pytest

from openai_compat.errors import RateLimited
from openai_compat.worker.admission import Admission


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Model:
    """An admission and the jobs that it let in, which the test ends."""

    def __init__(self, *, slots: int = 1, usual: float = 0.0, max_wait: float = 60.0, max_waiting: int = 256) -> None:
        self.clock = Clock()
        self.admission = Admission(max_wait, max_waiting, clock=self.clock)
        self.admission.slots = slots
        self.jobs = 0
        if usual:
            self.admission.ended(usual)

    def ask(self, *, oldest: float = 0.0, patience: float = 600.0) -> float | None:
        """None where it was let in, else the seconds after which to come again."""
        try:
            self.admission.check(self.jobs, oldest=oldest, patience=patience)
        except RateLimited as error:
            return error.retry_after
        self.jobs += 1
        return None

    def fill(self) -> int:
        """How many it takes at once."""
        before = self.jobs
        while self.ask() is None:
            pass
        return self.jobs - before

    def overload(self, times: int, seconds: float, usual: float) -> list[float]:
        """The waits of those that were let in while ``times`` as many came as could be done, by what had to be done first."""
        waits = []
        step = usual / self.admission.slots
        for _ in range(round(seconds / step)):
            for _ in range(times):
                ahead = max(0, self.jobs + 1 - self.admission.slots)
                if self.ask() is None:
                    waits.append(ahead * step)
            self.clock.now += step
            if self.jobs:
                self.jobs -= 1
                self.admission.ended(usual)
        return waits


@pytest.mark.parametrize(("slots", "usual"), [(1, 0.05), (1, 4.0), (64, 5.0)])
def test_at_four_times_capacity_nobody_waits_longer_than_a_request_takes_once_the_queue_stands(slots, usual):
    model = Model(slots=slots, usual=usual)
    model.overload(4, max(20.0, 12 * usual), usual)
    waits = model.overload(4, 20 * usual, usual)
    assert waits
    assert max(waits) <= usual * 1.001


def test_all_slots_are_kept_busy_by_an_overload():
    model = Model(slots=8, usual=2.0)
    model.overload(4, 40.0, 2.0)
    for _ in range(100):
        model.overload(4, 0.25, 2.0)
        assert model.jobs >= 8


@pytest.mark.parametrize(("slots", "usual", "taken"), [(1, 1.0, 60), (8, 1.0, 487), (1, 0.01, 256), (1, 90.0, 2)])
def test_a_burst_may_wait_for_as_long_as_is_set_and_one_always_for_a_turn(slots, usual, taken):
    model = Model(slots=slots, usual=usual, max_waiting=1000 if slots > 1 else 255)
    assert model.fill() in (taken, taken + 1)


def test_when_a_slot_is_free_again_a_burst_is_one_again():
    model = Model(usual=1.0)
    model.overload(4, 30.0, 1.0)
    assert model.jobs <= 2
    model.jobs = 0
    assert model.fill() == 61


def test_whoever_is_refused_is_told_when_those_before_it_are_done():
    model = Model(usual=4.0, max_wait=10.0)
    assert model.fill() == 3
    assert model.ask() == 12.0


def test_nobody_is_let_in_who_would_be_gone_before_its_turn():
    model = Model(usual=4.0)
    model.fill()
    model.jobs = 4
    assert model.ask(patience=10.0) == 16.0
    assert model.ask(patience=20.0) is None


def test_before_anything_is_known_of_a_model_only_the_number_and_the_first_in_line_count():
    model = Model(max_waiting=5)
    assert model.fill() == 6
    model.jobs = 2
    assert model.ask(oldest=61.0) == 1.0


def test_what_requests_take_is_learned_anew():
    model = Model(usual=10.0, max_wait=0.0)
    for _ in range(40):
        model.admission.ended(0.1)
    model.jobs = 2
    assert model.ask() == 1.0
    assert model.fill() == 0
