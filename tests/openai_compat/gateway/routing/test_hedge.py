"""Two targets at the same time: who begins first, and what is left of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from openai_compat.errors import APIError, InvalidRequest, UpstreamError
from openai_compat.gateway.routing.attempts import Attempts

Make = Callable[..., Any]
SOON = 0.05  # seconds until a second one is asked
LONG = 30.0


@asynccontextmanager
async def nothing_left(bench: Any) -> AsyncIterator[None]:
    """However it ends: no task, no exchange, nobody counted."""
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before
    assert bench.sender.held == []
    assert [state.in_flight for state in bench.router.states()] == [0] * len(bench.router.states())


def ask(bench: Any, **fields: Any) -> str:
    async def asked() -> str:
        async with nothing_left(bench):
            return str(await bench.ask(**fields))

    return asyncio.run(asked())


def refused(bench: Any) -> APIError:
    async def asked() -> APIError:
        async with nothing_left(bench):
            with pytest.raises(APIError) as caught:
                await bench.ask()
            return caught.value

    return asyncio.run(asked())


def test_a_target_that_answers_in_time_is_asked_alone(bench: Make) -> None:
    route = bench(hedge_after=LONG)
    assert ask(route) == "a"
    assert route.sender.asked == ["a"]
    assert route.sender.left_with == [None]


def test_a_slow_target_loses_to_the_second_and_is_let_go(bench: Make) -> None:
    route = bench(hedge_after=SOON)
    route.script(a=(LONG, "late"))
    assert ask(route) == "b"
    assert route.sender.asked == ["a", "b"]
    assert [route.state("a").hedges, route.state("b").hedges] == [0, 1]


def test_the_first_one_may_still_win(bench: Make) -> None:
    route = bench(hedge_after=SOON)
    route.script(a=(4 * SOON, "a after all"), b=(LONG, "late"))
    assert ask(route) == "a after all"


def test_two_are_asked_at_the_same_time_and_no_more(bench: Make) -> None:
    route = bench("a b c", hedge_after=SOON)
    route.script(a=(8 * SOON, "a"), b=(LONG, "late"))
    assert ask(route) == "a"
    assert route.sender.asked == ["a", "b"]


def test_a_failure_of_the_second_leaves_the_first(bench: Make, failure: Make) -> None:
    route = bench("a b", hedge_after=SOON)
    route.script(a=(6 * SOON, "a"), b=failure("refused"))
    assert ask(route) == "a"


def test_a_failure_of_the_first_leaves_the_second(bench: Make, failure: Make) -> None:
    route = bench("a b", hedge_after=SOON)
    route.script(a=(2 * SOON, failure("server_error")), b=(6 * SOON, "b"))
    assert ask(route) == "b"
    assert route.sender.asked == ["a", "b"]


def test_a_failure_before_the_time_is_a_fallback_like_any_other(bench: Make, failure: Make) -> None:
    route = bench(hedge_after=LONG)
    route.script(a=failure("not_begun"))
    assert ask(route) == "b"
    assert route.state("a").fallbacks == 1
    assert route.state("b").hedges == 0


def test_when_both_fail_the_others_are_asked_and_then_the_error_helps(bench: Make, failure: Make) -> None:
    route = bench("a b c", hedge_after=SOON, upstream={"retries": 0})
    route.script(a=(2 * SOON, failure("timeout")), b=(2 * SOON, failure("lost")), c=failure("not_begun"))
    assert refused(route).message == "It was timeout."
    assert route.sender.asked == ["a", "b", "c"]


def test_both_failing_in_the_same_moment_is_two_failures(bench: Make, failure: Make) -> None:
    route = bench("a b", hedge_after=SOON, upstream={"retries": 0})
    route.script(a=(3 * SOON, failure("lost")), b=(2 * SOON, failure("lost")))
    assert isinstance(refused(route), UpstreamError)
    assert route.state("a").failures == route.state("b").failures == {"lost": 1}


def test_a_hedge_counts_as_an_attempt(bench: Make) -> None:
    route = bench(hedge_after=SOON, attempts=1)
    route.script(a=(4 * SOON, "a"))
    assert ask(route) == "a"
    assert route.sender.asked == ["a"]


def test_a_request_that_is_wrong_in_itself_ends_both(bench: Make) -> None:
    route = bench(hedge_after=SOON)
    route.script(a=(LONG, "late"), b=InvalidRequest("No."))
    assert isinstance(refused(route), InvalidRequest)


def test_the_loser_is_no_failure_of_its_target(bench: Make) -> None:
    route = bench(hedge_after=SOON, upstream={"breaker": {"failures": 1}})
    route.script(a=(LONG, "late"))
    ask(route)
    assert route.state("a").state == "closed"
    assert route.state("a").failures == {}


@pytest.mark.parametrize("moment", [0.5 * SOON, 3 * SOON])
def test_a_client_that_leaves_ends_all_tries_at_once(bench: Make, took: Make, moment: float) -> None:
    route = bench(hedge_after=SOON)
    route.script(a=(LONG, "late"), b=(LONG, "late"))

    async def leave() -> None:
        async with nothing_left(route):
            task = asyncio.create_task(route.ask())
            await asyncio.sleep(moment)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(leave())
    assert took() < LONG / 2


def test_a_try_that_is_cancelled_from_within_does_not_leave_the_request_waiting(bench: Make, took: Make) -> None:
    route = bench(hedge_after=LONG)
    route.script(a=asyncio.CancelledError())

    async def cancelled() -> None:
        async with nothing_left(route):
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(route.ask(), LONG)

    asyncio.run(cancelled())
    assert took() < LONG / 2


def test_where_nobody_else_may_be_asked_nobody_looks_again_and_again(bench: Make, monkeypatch: Any) -> None:
    looks = 0
    other = Attempts.other

    def counted(attempts: Attempts) -> Any:
        nonlocal looks
        looks += 1
        return other(attempts)

    monkeypatch.setattr(Attempts, "other", counted)
    route = bench("a", hedge_after=0.001)
    route.script(a=(4 * SOON, "a"))
    assert ask(route) == "a"
    assert looks == 1


def test_a_client_that_leaves_in_the_middle_of_the_answer_ends_it_at_its_sender(bench: Make) -> None:
    route = bench(hedge_after=SOON)

    async def leave() -> None:
        async with nothing_left(route):
            with pytest.raises(asyncio.CancelledError):
                async with route.router.open(route.order(), route.destination()):
                    raise asyncio.CancelledError

    asyncio.run(leave())
    assert [type(error) for error in route.sender.left_with] == [asyncio.CancelledError]


def test_an_error_in_the_middle_of_the_answer_reaches_its_sender_and_the_breaker(bench: Make) -> None:
    route = bench(hedge_after=SOON, upstream={"breaker": {"failures": 1}})

    async def break_off() -> None:
        async with nothing_left(route):
            with pytest.raises(UpstreamError, match="broke off"):
                async with route.router.open(route.order(), route.destination()):
                    raise UpstreamError("It broke off.")

    asyncio.run(break_off())
    assert [type(error) for error in route.sender.left_with] == [UpstreamError]
    assert route.state("a").state == "open"


def test_many_hedged_requests_leave_no_tasks_behind(bench: Make) -> None:
    route = bench(hedge_after=0.01, policy="round_robin")
    route.script(a=(0.02, "a"), b=(0.01, "b"), c=(0.015, "c"))

    async def many() -> list[str]:
        async with nothing_left(route):
            return list(await asyncio.gather(*(route.ask() for _ in range(200))))

    assert set(asyncio.run(many())) <= set("abc")


def test_a_failure_beside_a_prompt_that_is_too_long_does_not_hide_that(bench: Make, failure: Make) -> None:
    route = bench("a b c", hedge_after=SOON)
    route.script(a=(4 * SOON, failure("server_error")), b=failure("context"))
    assert refused(route).message == "It was context."
    assert route.sender.asked == ["a", "b"]


# ---------------------------------------------------------------- whose account


def test_the_winner_is_counted_as_it_said_itself_and_the_loser_by_estimate(bench: Make) -> None:
    route = bench(hedge_after=SOON)
    route.script(a=(4 * SOON, "a after all"), b=(LONG, "late"))
    route.sender.counts["a"] = (7, 3)
    ask(route)
    assert route.tally.said == [("aim", "a"), ("aim", "b"), ("aim", "a"), ("used", 7, 3, 0), ("spent", "b")]


def test_a_loser_that_was_counted_meanwhile_does_not_count_for_the_winner(bench: Make) -> None:
    route = bench(hedge_after=SOON)
    route.script(a=(LONG, "late"), b=(SOON, "b"))
    route.sender.counts["a"] = (100, 100)
    ask(route)
    assert route.tally.said == [("aim", "a"), ("aim", "b"), ("aim", "b"), ("spent", "a")]


def test_a_worker_that_lost_says_itself_what_it_did(bench: Make) -> None:
    route = bench("local a", hedge_after=SOON)
    route.script(local=(LONG, "late"))
    route.sender.reports["local"] = "its counts"
    ask(route)
    assert ("report", "local", "its counts") in route.tally.said
    assert ("spent", "local") not in route.tally.said


def test_a_worker_that_failed_reports_all_the_same_and_has_spent_nothing(bench: Make, failure: Make) -> None:
    route = bench("local a", hedge_after=SOON)
    route.script(local=(2 * SOON, failure("lost")), a=(4 * SOON, "a"))
    route.sender.reports["local"] = None
    assert ask(route) == "a"
    assert route.tally.said[-1] == ("aim", "a")
    assert ("report", "local", None) in route.tally.said
    assert not [said for said in route.tally.said if said[0] == "spent"]


def test_a_client_that_leaves_two_targets_is_charged_for_each_once(bench: Make) -> None:
    route = bench(hedge_after=SOON)
    route.script(a=(LONG, "late"), b=(LONG, "late"))

    async def leave() -> None:
        async with nothing_left(route):
            task = asyncio.create_task(route.ask())
            await asyncio.sleep(3 * SOON)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert route.tally.said[-2:] == [("aim", "b"), ("spent", "a")], "b is what the account is aimed at when it is closed"


@pytest.mark.parametrize("steps", range(1, 6))
def test_whoever_is_in_a_hurry_leaves_nobody_behind(bench: Make, steps: int) -> None:
    """The client leaves, and the request's time is over, or the server's, while the targets are let go."""

    async def asked() -> None:
        route = bench(hedge_after=SOON)
        route.script(a=(LONG, "late"), b=(LONG, "late"))
        before = asyncio.all_tasks()
        asking = asyncio.create_task(route.ask())
        await asyncio.sleep(3 * SOON)
        asking.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.sleep(SOON)
        assert asyncio.all_tasks() == before
        assert route.sender.held == []
        assert not any(state.in_flight for state in route.router.states())

    asyncio.run(asked())
