"""One request after another through the router, its targets scripted: again, elsewhere, or an error that helps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from openai_compat.errors import (
    APIError,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    ModelLoading,
    RateLimited,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from openai_compat.gateway.order import Failure

Make = Callable[..., Any]


def ask(bench: Any, *args: Any, **fields: Any) -> str:
    answer: str = asyncio.run(bench.ask(*args, **fields))
    return answer


def refused(bench: Any, *args: Any, **fields: Any) -> APIError:
    """What the client reads."""
    with pytest.raises(APIError) as caught:
        ask(bench, *args, **fields)
    assert caught.value.__cause__ is None, "what the sender saw is not for the client's eyes"
    assert bench.sender.held == []
    return caught.value


# ---------------------------------------------------------------- a name of one target


def test_a_name_of_one_target_is_asked_once(bench: Make) -> None:
    one = bench()
    assert ask(one, "a") == "a"
    assert one.sender.asked == ["a"]
    assert one.sender.held == []
    assert one.state("a").begun == 1


@pytest.mark.parametrize("cause", ["rate_limited", "server_error", "not_begun", "lost"])
def test_what_may_pass_is_tried_again_at_the_same_target(bench: Make, failure: Make, cause: str) -> None:
    one = bench(upstream={"retries": 2})
    one.script(a=[failure(cause), failure(cause), "at last"])
    assert ask(one, "a") == "at last"
    assert one.state("a").retries == 2
    assert one.state("a").failures == {cause: 2}
    assert one.state("a").fallbacks == 0


@pytest.mark.parametrize("cause", ["timeout", "refused", "context"])
def test_what_does_not_pass_is_not_tried_again(bench: Make, failure: Make, cause: str) -> None:
    one = bench(upstream={"retries": 5})
    one.script(a=failure(cause))
    refused(one, "a")
    assert one.sender.asked == ["a"]


def test_retries_end_where_the_upstream_settings_say(bench: Make, failure: Make) -> None:
    one = bench(upstream={"retries": 3, "breaker": {"failures": 100}})
    one.script(a=failure("server_error"))
    assert isinstance(refused(one, "a"), UpstreamError)
    assert one.sender.asked == ["a"] * 4


def test_an_error_that_asks_for_no_retry_gets_none(bench: Make, failure: Make) -> None:
    one = bench()
    one.script(a=failure("rate_limited", retry=False))
    refused(one, "a")
    assert one.sender.asked == ["a"]


def test_a_worker_that_could_not_be_reached_is_asked_once_more_and_at_once(bench: Make, failure: Make) -> None:
    one = bench(pause=50)
    one.script(local=[failure("not_begun"), "here"])
    assert ask(one, "local") == "here"


@pytest.mark.parametrize("cause", ["lost", "server_error", "rate_limited"])
def test_a_local_model_is_not_asked_again_for_anything_else(bench: Make, failure: Make, cause: str) -> None:
    one = bench()
    one.script(local=failure(cause))
    refused(one, "local")
    assert one.sender.asked == ["local"]


def test_an_error_of_the_request_itself_is_the_answer(bench: Make) -> None:
    one = bench()
    one.script(a=InvalidRequest("No."))
    assert isinstance(refused(one, "a"), InvalidRequest)
    assert isinstance(refused(one), InvalidRequest)
    assert one.sender.asked == ["a", "a"]
    assert one.state("a").failures == {}


# ---------------------------------------------------------------- routes


@pytest.mark.parametrize("cause", ["rate_limited", "server_error", "timeout", "not_begun", "lost", "refused"])
def test_another_target_is_asked_at_once(bench: Make, failure: Make, took: Make, cause: str) -> None:
    route = bench(pause=30)
    route.script(a=failure(cause, 20.0))
    assert ask(route) == "b"
    assert route.sender.asked == ["a", "b"]
    assert took() < 5
    assert route.state("a").fallbacks == 1


def test_when_all_have_failed_once_those_that_may_recover_are_asked_again(bench: Make, failure: Make) -> None:
    route = bench("a b", attempts=10, upstream={"retries": 1})
    route.script(a=[failure("server_error"), "a is back"], b=failure("refused"))
    assert ask(route) == "a is back"
    assert route.sender.asked == ["a", "b", "a"]


def test_attempts_bound_all_tries_together(bench: Make, failure: Make) -> None:
    route = bench("a b c", attempts=4, upstream={"retries": 10})
    route.script(a=failure("server_error"), b=failure("server_error"), c=failure("server_error"))
    refused(route)
    assert route.sender.asked == ["a", "b", "c", "a"]


def test_one_attempt_is_one_attempt(bench: Make, failure: Make) -> None:
    route = bench(attempts=1)
    route.script(a=failure("timeout"))
    assert isinstance(refused(route), UpstreamTimeout)
    assert route.sender.asked == ["a"]


def test_a_local_model_that_is_overloaded_gives_way_to_an_upstream(bench: Make) -> None:
    route = bench("local a")
    route.script(local=Failure("server_error", ModelLoading("Loading.", retry_after=5), retry_after=5))
    assert ask(route) == "a"
    assert ask(route) == "a"
    assert route.sender.asked == ["local", "a", "a"], "for its 5 seconds it is not waited for again"
    route.now += 6
    assert [ask(route), route.sender.asked[-2:]] == ["a", ["local", "a"]]


def test_a_fallback_is_a_line_in_the_log_with_labels_and_the_request(bench: Make, failure: Make, caplog: Any) -> None:
    route = bench()
    route.script(a=failure("rate_limited", message="secret words of https://a.invalid"))
    with caplog.at_level(logging.INFO, logger="openai_compat"):
        ask(route)
    assert [record.getMessage() for record in caplog.records] == ["a came to nothing (rate_limited), b is asked [req-1]"]


def test_the_account_is_aimed_at_whoever_is_asked(bench: Make, failure: Make) -> None:
    route = bench()
    route.script(a=failure("lost"))
    ask(route)
    assert route.tally.aims == ["a", "b"]


# ---------------------------------------------------------------- time


def test_a_target_says_itself_when_it_is_to_be_asked_again(bench: Make, failure: Make, monkeypatch: Any) -> None:
    one = bench(pause=0.5)
    waits = fast_clock(one, monkeypatch)
    one.script(a=[failure("rate_limited", 3.0), "now"])
    assert ask(one, "a") == "now"
    assert waits == [3.5]


def test_who_is_to_wait_long_is_told_instead_of_being_held(bench: Make, failure: Make) -> None:
    one = bench()
    one.script(a=failure("rate_limited", 30.0))
    assert refused(one, "a").retry_after == 30
    assert one.sender.asked == ["a"]


def test_nothing_is_waited_for_beyond_the_deadline(bench: Make, failure: Make, took: Make) -> None:
    one = bench()
    one.script(a=failure("rate_limited", 5.0))
    assert isinstance(refused(one, "a", deadline=one.now + 4), RateLimited)
    assert took() < 3


def test_without_time_nobody_is_asked(bench: Make) -> None:
    route = bench()
    assert isinstance(refused(route, deadline=route.now - 1), DeadlineExceeded)
    assert route.sender.asked == []


def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(bench: Make, failure: Make) -> None:
    one = bench(pause=9)
    one.script(a=failure("server_error"))

    async def leave() -> None:
        task = asyncio.create_task(one.ask("a"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(leave())
    assert one.sender.held == []
    assert one.state("a").in_flight == 0


def fast_clock(bench: Any, monkeypatch: Any) -> list[float]:
    """Let the waits pass on the router's clock without passing; returns them."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def pass_by(seconds: float) -> None:
        waits.append(seconds)
        bench.now += seconds
        await sleep(0)

    monkeypatch.setattr("openai_compat.gateway.routing.dispatcher.asyncio.sleep", pass_by)
    return waits


# ---------------------------------------------------------------- too long a prompt


def too_long(message: str = "Too long.") -> Failure:
    return Failure("context", InvalidRequest(message, code="context_length_exceeded", param="messages"))


def test_too_long_a_prompt_goes_to_the_larger_model_and_to_nobody_else(bench: Make) -> None:
    route = bench("a b")
    route.larger = "d"
    route.script(a=too_long())
    assert ask(route) == "d"
    assert route.sender.asked == ["a", "d"]


def test_what_is_too_long_for_the_larger_model_too_is_its_400(bench: Make) -> None:
    route = bench("a b")
    route.larger = "d"
    route.script(a=too_long(), d=too_long("Much too long."))
    assert refused(route).message == "Much too long."
    assert route.sender.asked == ["a", "d"]


def test_the_larger_model_may_be_one_of_the_targets(bench: Make) -> None:
    route = bench("a b")
    route.larger = "a"
    route.script(a=too_long())
    assert refused(route).code == "context_length_exceeded"
    assert route.sender.asked == ["a"]


def test_without_a_larger_model_only_targets_that_are_known_to_be_larger_are_asked(bench: Make) -> None:
    route = bench("a b c")
    route.sizes = {"a": 1000, "b": 1000, "c": 2000}
    route.script(a=too_long())
    assert ask(route) == "c"
    assert route.sender.asked == ["a", "c"]


def test_when_nobody_is_known_to_be_larger_the_client_reads_the_400(bench: Make) -> None:
    route = bench("a b c")
    route.script(a=too_long())
    error = refused(route)
    assert (type(error), error.code) == (InvalidRequest, "context_length_exceeded")
    assert route.sender.asked == ["a"]


def test_our_own_words_for_it_are_passed_on_too(bench: Make) -> None:
    one = bench()
    one.script(local=Failure("context", ContextLengthExceeded(prompt_tokens=9, max_tokens=1, context_length=8)))
    assert isinstance(refused(one, "local"), ContextLengthExceeded)


def test_a_larger_model_that_may_recover_is_the_error_and_not_the_400(bench: Make, failure: Make) -> None:
    route = bench("a b", upstream={"retries": 0})
    route.larger = "d"
    route.script(a=too_long(), d=failure("server_error"))
    assert isinstance(refused(route), UpstreamError)


def test_what_failed_before_the_prompt_was_too_long_has_no_say_any_more(bench: Make, failure: Make) -> None:
    route = bench("a b", upstream={"retries": 0})
    route.larger = "d"
    route.script(a=failure("rate_limited", 5.0), b=too_long(), d=failure("server_error"))
    assert isinstance(refused(route), UpstreamError)
    assert route.sender.asked == ["a", "b", "d"]


# ---------------------------------------------------------------- which error


@pytest.mark.parametrize(
    ("causes", "told"),
    [
        (("not_begun", "rate_limited", "server_error"), "rate_limited"),
        (("timeout", "lost", "server_error"), "server_error"),
        (("refused", "not_begun", "timeout"), "timeout"),
        (("refused", "not_begun", "lost"), "lost"),
        (("refused", "refused", "not_begun"), "not_begun"),
    ],
)
def test_of_several_failures_the_client_reads_what_helps_most(
    bench: Make, failure: Make, causes: tuple[str, ...], told: str
) -> None:
    route = bench(upstream={"retries": 0})
    route.script(**{name: failure(cause) for name, cause in zip("abc", causes, strict=True)})
    assert refused(route).message == f"It was {told}."


def test_of_several_rate_limits_the_one_that_ends_first_counts(bench: Make, failure: Make) -> None:
    route = bench(upstream={"retries": 0})
    route.script(a=failure("rate_limited"), b=failure("rate_limited", 50.0), c=failure("rate_limited", 20.0))
    assert refused(route).retry_after == 20


# ---------------------------------------------------------------- left alone, set aside


def broken(bench: Make, failure: Make, targets: str = "a b", **fields: Any) -> Any:
    route = bench(targets, upstream={"retries": 0, "breaker": {"failures": 2, "pause": 10}}, **fields)
    route.script(a=failure("not_begun"))
    return route


def test_a_target_that_keeps_failing_is_left_alone_and_tried_again_after_its_pause(
    bench: Make, failure: Make, caplog: Any
) -> None:
    route = broken(bench, failure)
    for _ in range(3):
        assert ask(route) == "b"
    assert route.sender.asked == ["a", "b", "a", "b", "b"]
    assert route.state("a").state == "open"
    assert "a keeps failing and is left alone for 10.0 s" in caplog.text
    route.now += 10
    route.script(a="a is back")
    assert ask(route) == "a is back"
    assert route.state("a").state == "closed"


def test_a_single_target_that_is_left_alone_is_a_503_at_once_that_says_for_how_long(bench: Make, failure: Make) -> None:
    one = broken(bench, failure)
    for _ in range(2):
        refused(one, "a")
    one.now += 4
    error = refused(one, "a")
    assert isinstance(error, Unavailable)
    assert error.retry_after == 6
    assert one.sender.asked == ["a", "a"]


def test_a_route_whose_targets_are_all_left_alone_says_when_the_first_is_back(bench: Make, failure: Make) -> None:
    route = broken(bench, failure, targets="a")
    refused(route)
    refused(route)
    assert refused(route).retry_after == 10
    assert route.sender.asked == ["a", "a"]


@pytest.mark.parametrize("cause", ["rate_limited", "refused", "context"])
def test_what_is_no_fault_of_the_target_never_opens_its_breaker(bench: Make, failure: Make, cause: str) -> None:
    one = broken(bench, failure)
    one.script(a=failure(cause))
    for _ in range(5):
        refused(one, "a")
    assert one.state("a").state == "closed"


def test_a_shortage_of_our_own_never_opens_a_breaker(bench: Make, failure: Make) -> None:
    one = broken(bench, failure)
    one.script(a=Failure("not_begun", Unavailable("The server has too many open connections.", retry_after=1)))
    for _ in range(5):
        refused(one, "a")
    assert one.state("a").state == "closed"
    assert one.state("a").aside_for == 0


def test_a_rate_limited_target_is_set_aside_for_as_long_as_it_asked(bench: Make, failure: Make) -> None:
    route = bench("a b")
    route.script(a=[failure("rate_limited", 30.0), "a"])
    assert [ask(route), ask(route)] == ["b", "b"]
    route.now += 30
    assert ask(route) == "a"
    assert route.sender.asked == ["a", "b", "b", "a"]


def test_when_all_are_set_aside_nobody_is_asked_before_the_time(bench: Make, failure: Make) -> None:
    route = bench("a b")
    route.script(a=failure("rate_limited", 30.0), b=failure("rate_limited", 20.0))
    refused(route)
    error = refused(route)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 20
    assert route.sender.asked == ["a", "b"]


def test_a_client_that_leaves_a_probe_frees_it(bench: Make, failure: Make) -> None:
    one = broken(bench, failure)
    for _ in range(2):
        refused(one, "a")
    one.now += 10
    one.script(a=[(30, "never"), "back"])

    async def leave() -> None:
        task = asyncio.create_task(one.ask("a"))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert one.state("a").state == "half_open"
    assert ask(one, "a") == "back"


def test_answers_that_break_off_count_against_a_target(bench: Make) -> None:
    one = bench(upstream={"breaker": {"failures": 2}})

    async def broken_off() -> None:
        async with one.router.open(one.order(), one.destination("a")):
            raise UpstreamError("It broke off.")

    for _ in range(2):
        with pytest.raises(UpstreamError):
            asyncio.run(broken_off())
    assert one.state("a").state == "open"
    assert [type(error) for error in one.sender.left_with] == [UpstreamError] * 2


def test_errors_of_our_own_while_an_answer_is_sent_do_not(bench: Make) -> None:
    one = bench(upstream={"breaker": {"failures": 1}})

    async def ours() -> None:
        async with one.router.open(one.order(), one.destination("a")):
            raise Unavailable("The disk is full.")

    with pytest.raises(Unavailable):
        asyncio.run(ours())
    assert one.state("a").state == "closed"
    assert one.state("a").in_flight == 0


# ---------------------------------------------------------------- who is first


def test_round_robin_takes_turns(bench: Make) -> None:
    route = bench(policy="round_robin")
    assert [ask(route) for _ in range(4)] == ["a", "b", "c", "a"]


def test_weights_are_kept(bench: Make) -> None:
    route = bench("a b", policy="weighted")
    route.weights = {"a": 3.0}
    assert sorted(ask(route) for _ in range(8)) == ["a"] * 6 + ["b"] * 2


def test_least_in_flight_avoids_who_is_busy(bench: Make) -> None:
    route = bench("a b", policy="least_in_flight")

    async def beside() -> list[str]:
        async with route.router.open(route.order(), route.destination("a")):
            return [await route.ask() for _ in range(8)]

    assert asyncio.run(beside()) == ["b"] * 8


def test_a_session_stays_on_its_target_and_moves_only_while_that_is_away(bench: Make, failure: Make) -> None:
    route = bench("a b c d", policy="round_robin", sticky="session")
    sessions = [[(b"x-session-id", str(number).encode())] for number in range(30)]
    before = [ask(route, headers=session) for session in sessions]
    assert set(before) == set("abcd")
    assert [ask(route, headers=session) for session in sessions] == before
    route.script(a=failure("rate_limited", 60.0))
    away = [ask(route, headers=session) for session in sessions]
    assert [new for new, old in zip(away, before, strict=True) if old != "a"] == [old for old in before if old != "a"]
    route.now += 60
    route.script(a="a")
    assert [ask(route, headers=session) for session in sessions] == before


def test_a_request_without_a_session_goes_by_the_policy(bench: Make) -> None:
    route = bench(policy="round_robin", sticky="session")
    assert [ask(route) for _ in range(3)] == ["a", "b", "c"]
