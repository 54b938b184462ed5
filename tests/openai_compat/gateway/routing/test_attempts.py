"""The pauses between tries, and the plan of one request under any failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openai_compat.gateway.order import Failure, UpstreamTarget
from openai_compat.gateway.routing.attempts import LONGEST_WAIT, Attempts, Candidate, back_off
from openai_compat.gateway.routing.breaker import Circuit
from openai_compat.gateway.routing.standing import Standing

CAUSES = ("not_begun", "lost", "timeout", "rate_limited", "server_error", "refused", "context", "open")


def test_pauses_are_random_within_a_bound_that_doubles_and_ends() -> None:
    drawn = {tries: [back_off(tries) for _ in range(300)] for tries in (1, 2, 3, 5, 20)}
    for tries, bound in {1: 0.25, 2: 0.5, 3: 1.0, 5: 4.0, 20: 4.0}.items():
        assert all(0 <= pause <= bound for pause in drawn[tries])
        assert max(drawn[tries]) > 0.8 * bound
        assert min(drawn[tries]) < 0.2 * bound


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_failures_in_any_order_lead_beyond_attempts_retries_or_the_deadline(
    bench: Callable[..., Any], failure: Callable[..., Failure], data: st.DataObject
) -> None:
    now = 50.0
    limit, retries = data.draw(st.integers(1, 8)), data.draw(st.integers(0, 3))
    target = bench().target("a")
    assert isinstance(target, UpstreamTarget)
    candidates = [Candidate(target, Standing("u", name, Circuit(None)), retries=retries) for name in "abc"]
    order = bench().order(deadline=now + data.draw(st.floats(0, 30)))
    attempts = Attempts(order, candidates, limit=limit, clock=lambda: now, pause=lambda tries: 0.5 * tries)
    asked, held = [], 0.0
    while (step := attempts.next()) is not None:
        held += step.wait
        assert 0 <= held <= LONGEST_WAIT
        now += step.wait
        assert now < order.deadline
        asked.append(step.candidate)
        wait = data.draw(st.none() | st.floats(0, 20))
        attempts.failed(step.candidate, failure(data.draw(st.sampled_from(CAUSES)), wait))
        now += data.draw(st.floats(0, 5))
    assert len(asked) <= limit
    assert all(asked.count(candidate) <= retries + 1 for candidate in candidates)
    assert attempts.error().message


def test_a_request_is_not_held_for_one_wait_after_another(bench: Callable[..., Any], failure: Callable[..., Failure]) -> None:
    now = 50.0
    candidate = Candidate(bench().target("a"), Standing("u", "a", Circuit(None)), retries=5)
    attempts = Attempts(bench().order(deadline=now + 600), [candidate], limit=6, clock=lambda: now, pause=lambda tries: 0.0)
    waits = []
    while (step := attempts.next()) is not None:
        waits.append(step.wait)
        now += step.wait
        attempts.failed(candidate, failure("rate_limited", 7.0))
    assert waits == [0.0, 7.0]
    assert attempts.error().retry_after == 7.0
