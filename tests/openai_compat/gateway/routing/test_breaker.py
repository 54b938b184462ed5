"""The breaker of one target, on a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openai_compat.config import Breaker
from openai_compat.gateway.routing.breaker import Circuit

SETTINGS = Breaker(failures=3, pause=10, pause_max=30)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(SETTINGS, clock)


def fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        ticket = circuit.admit()
        assert ticket is not None
        circuit.failed(ticket)


def test_it_opens_after_so_many_failures_in_a_row(circuit: Circuit) -> None:
    fail(circuit, 2)
    assert circuit.state == "closed"
    fail(circuit, 1)
    assert circuit.state == "open"
    assert circuit.admit() is None
    assert circuit.left_alone_for() == 10


def test_a_success_between_failures_starts_the_count_anew(circuit: Circuit) -> None:
    fail(circuit, 2)
    circuit.succeeded(circuit.admit())
    fail(circuit, 2)
    assert circuit.state == "closed"


def test_after_its_pause_one_request_tries_and_the_others_are_refused(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 9.9
    assert circuit.admit() is None
    clock.now += 0.2
    assert circuit.admit() is not None
    assert circuit.state == "half_open"
    assert circuit.admit() is None


def test_a_probe_that_succeeds_closes_it(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10
    circuit.succeeded(circuit.admit())
    assert circuit.state == "closed"
    assert circuit.left_alone_for() == 0


def test_each_probe_that_fails_doubles_the_pause_up_to_its_bound(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    pauses = []
    for _ in range(4):
        pauses.append(circuit.left_alone_for())
        clock.now += pauses[-1]
        fail(circuit, 1)
    assert pauses == [10, 20, 30, 30]


def test_after_a_recovery_the_pause_is_short_again(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10
    fail(circuit, 1)
    clock.now += 20
    circuit.succeeded(circuit.admit())
    fail(circuit, 3)
    assert circuit.left_alone_for() == 10


def test_a_probe_that_is_called_off_makes_room_for_the_next(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10
    circuit.dropped(circuit.admit())
    assert circuit.admit() is not None


def test_a_probe_that_takes_long_holds_others_back_for_one_pause_only(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10
    slow = circuit.admit()
    clock.now += 9
    assert circuit.admit() is None
    clock.now += 1
    assert circuit.admit() is not None
    circuit.succeeded(slow)
    assert circuit.state == "closed"


def test_requests_from_before_it_opened_have_no_say_in_its_recovery(circuit: Circuit, clock: Clock) -> None:
    early = [circuit.admit() for _ in range(4)]
    fail(circuit, 3)
    circuit.succeeded(early[0])
    assert circuit.state == "open"
    clock.now += 10
    probe = circuit.admit()
    circuit.succeeded(early[1])
    circuit.failed(early[2])
    circuit.dropped(early[3])
    assert circuit.state == "half_open"
    assert circuit.admit() is None
    circuit.succeeded(probe)
    assert circuit.state == "closed"


def test_without_settings_it_never_opens(clock: Clock) -> None:
    circuit = Circuit(None, clock)
    fail(circuit, 1000)
    assert circuit.state == "closed"


def test_being_set_aside_passes_by_itself_and_lasts_an_hour_at_most(circuit: Circuit, clock: Clock) -> None:
    circuit.set_aside(7)
    circuit.set_aside(3)
    assert circuit.aside_for() == 7
    clock.now += 7
    assert circuit.aside_for() == 0
    circuit.set_aside(1e9)
    assert circuit.aside_for() == 3600
    assert circuit.state == "closed"


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, it never stays shut, and never lets many through while it is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.circuit = Circuit(SETTINGS, self.clock)
        self.tickets: list[int] = []
        self.probes: list[float] = []

    @rule()
    def ask(self) -> None:
        shut = self.circuit.state != "closed"
        ticket = self.circuit.admit()
        if ticket is not None:
            self.tickets.append(ticket)
            if shut:
                self.probes.append(self.clock.now)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), verdict=st.sampled_from(("succeeded", "failed")))
    def end(self, data: st.DataObject, verdict: str) -> None:
        ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
        getattr(self.circuit, verdict)(ticket)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def it_is_never_shut_longer_than_its_bound(self) -> None:
        assert 0 <= self.circuit.left_alone_for() <= SETTINGS.pause_max

    @invariant()
    def probes_keep_their_distance(self) -> None:
        gaps = [later - earlier for earlier, later in zip(self.probes, self.probes[1:], strict=False)]
        assert all(gap >= SETTINGS.pause - 1e-6 or gap == 0 for gap in gaps) or self.circuit.state == "closed"


def test_no_order_of_events_leaves_it_shut_for_ever() -> None:
    AnyOrder.TestCase().runTest()
