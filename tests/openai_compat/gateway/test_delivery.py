"""An event stream is cut at events only, however the bytes arrive."""

from __future__ import annotations

import asyncio
import json

import pytest

from openai_compat.errors import Cancelled, WorkerDied
from openai_compat.gateway.delivery import ClientWatch, Deadline, Delivery
from openai_compat.http.delays import Delay
from openai_compat.http.departure import DEPARTURE, Departure

STREAM = b'data: {"a": 1}\n\n: ping\n\ndata: {"b": 2}\n\ndata: [DONE]\n\n'


def deliver(chunks, **options):
    return [message["body"] for message in messages_of(chunks, **options)]


def messages_of(chunks, *, fail=False, media_type=b"text/event-stream"):
    sent = []

    async def send(message):
        sent.append(message)

    async def scenario():
        delivery = Delivery(send, {}, 0.0)
        await delivery.start(200, [(b"Content-Type", media_type)])
        for chunk in chunks:
            await delivery.pass_on(chunk)
        await (delivery.fail(WorkerDied("It died.")) if fail else delivery.end())

    asyncio.run(scenario())
    return sent[1:]


@pytest.mark.parametrize("size", range(1, len(STREAM) + 1))
def test_every_write_ends_with_an_event_and_nothing_is_lost(size):
    bodies = deliver([STREAM[at : at + size] for at in range(0, len(STREAM), size)])
    assert b"".join(bodies) == STREAM
    assert all(body.endswith(b"\n\n") for body in bodies[:-1])


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_an_error_after_a_cut_anywhere_is_an_event_of_its_own(cut):
    events = b"".join(deliver([STREAM[:cut]], fail=True)).split(b"\n\n")
    assert json.loads(events[-2].removeprefix(b"data: "))["error"]["code"] == "worker_died"
    assert all(event + b"\n\n" in STREAM for event in events[:-2])


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_stream_ends_with_its_last_event_and_nothing_follows(cut):
    messages = messages_of([STREAM[:cut], STREAM[cut:], b": ping\n\n"])
    assert [message["more_body"] for message in messages] == [True] * (len(messages) - 1) + [False]
    assert messages[-1]["body"].endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [
        ([(b"content-type", b"text/event-stream")], [STREAM[:20], STREAM[20:]]),
        ([(b"content-type", b"text/event-stream")], [STREAM[:20]]),
        ([(b"content-type", b"application/json"), (b"content-length", b"4")], [b"ab", b"cd"]),
        ([(b"content-type", b"audio/wav")], [b"ab", b"cd"]),
    ],
    ids=["a stream", "a stream without its end", "of announced length", "of any length"],
)
def test_that_it_is_the_last_is_told_once_and_before_it_leaves(headers, chunks):
    order = []

    async def send(message):
        order.append("last" if not message.get("more_body", True) else message["type"])

    async def scenario():
        delivery = Delivery(send, {}, 0.0)
        delivery.on_last = lambda: order.append("told")
        await delivery.start(200, headers)
        for chunk in chunks:
            await delivery.pass_on(chunk)
        await delivery.end()

    asyncio.run(scenario())
    assert order[-2:] == ["told", "last"]
    assert order.count("told") == 1


def test_what_a_target_tells_of_its_own_limits_goes_to_nobody():
    sent = []

    async def send(message):
        sent.append(message)

    told = [(b"X-RateLimit-Limit-Requests", b"5"), (b"x-ratelimit-reset-images", b"1s"), (b"X-Oc-Facts", b"x")]
    asyncio.run(Delivery(send, {}, 0.0).start(200, [*told, (b"content-type", b"audio/wav")]))
    assert sent[0]["headers"] == [(b"content-type", b"audio/wav")]


def test_windows_line_ends_are_understood():
    bodies = deliver([b"data: 1\r\n", b"\r\ndata: 2\r\n\r\n"])
    assert b"".join(bodies) == b"data: 1\r\n\r\ndata: 2\r\n\r\n"


def test_an_event_longer_than_is_held_back_is_passed_on_and_an_error_after_it_stands_alone():
    long = b"data: " + b"x" * 200_000
    bodies = deliver([long, b"y"], fail=True)
    assert bodies[0] == long
    assert bodies[-1].startswith(b'\n\ndata: {"error"')


def test_other_answers_are_not_looked_at():
    assert deliver([b"ab", b"c"], media_type=b"audio/mpeg") == [b"ab", b"c", b""]


def test_a_broken_answer_that_is_no_stream_is_left_unfinished():
    assert deliver([b"ab"], media_type=b"audio/mpeg", fail=True) == [b"ab"]


def test_a_failure_before_the_first_byte_is_raised():
    async def send(message):
        raise AssertionError(message)

    with pytest.raises(WorkerDied):
        asyncio.run(Delivery(send, {}, 0.0).fail(WorkerDied("It died.")))


def watched(leave, *, told: bool):
    """What a request that waits for ever ends with, when its client leaves; and whether the layers around learned of it."""
    departure, heard = Departure(), []

    async def scenario():
        gone = asyncio.Event()

        async def receive():
            await gone.wait()
            heard.append("disconnect")
            return {"type": "http.disconnect"}

        def depart():
            gone.set()
            departure.tell()

        if leave == "before":
            depart()
        else:
            asyncio.get_running_loop().call_later(0.01, depart)
        with pytest.raises(Cancelled):
            async with ClientWatch(receive, {DEPARTURE: departure} if told else {}, Delivery(None, {}, 0.0)):
                await asyncio.sleep(30)
        assert asyncio.current_task().cancelling() == 0
        assert departure.calls == []
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())
    return heard


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("leave", ["before", "later"])
def test_a_client_that_leaves_ends_its_request_whoever_tells(leave, told):
    assert watched(leave, told=told) != []


def test_an_answer_that_is_complete_is_not_cancelled_when_the_connection_ends_after_it():
    departure = Departure()

    async def scenario():
        async with ClientWatch(None, {DEPARTURE: departure}, Delivery(None, {}, 0.0)) as watch:
            pass
        departure.tell()
        await asyncio.sleep(0)
        assert not watch.client_gone

    asyncio.run(scenario())


@pytest.mark.parametrize("told", [True, False])
def test_a_client_that_leaves_once_it_has_everything_ends_nothing(told):
    departure = Departure()

    async def send(message):
        pass

    async def receive():
        return {"type": "http.disconnect"}  # as servers say it of an answer that is complete

    async def scenario():
        delivery = Delivery(send, {}, 0.0)
        await delivery.start(200, [(b"content-type", b"text/event-stream")])
        await delivery.pass_on(STREAM)
        async with ClientWatch(receive, {DEPARTURE: departure} if told else {}, delivery) as watch:
            departure.tell()
            await asyncio.sleep(0.01)
        assert not watch.client_gone

    asyncio.run(scenario())


def ended(wait, *, seconds=0.01, cancel_after=None):
    """What a task is left with that waits under a deadline: its error, and how many cancellations are still asked of it."""

    async def scenario():
        task = asyncio.current_task()
        if cancel_after is not None:
            asyncio.get_running_loop().call_later(cancel_after, task.cancel)
        try:
            with Deadline(Delay(seconds)):
                await wait()
        except BaseException as error:
            return type(error), task.cancelling()
        return None, task.cancelling()

    return asyncio.run(scenario())


def test_what_takes_longer_than_it_may_ends_with_a_time_out_and_no_cancellation():
    assert ended(lambda: asyncio.sleep(30)) == (TimeoutError, 0)


def test_what_is_done_in_time_is_not_disturbed_later():
    async def scenario():
        with Deadline(Delay(0.01)):
            pass
        await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_an_error_within_the_time_stays_what_it_is():
    async def fail():
        raise WorkerDied("It died.")

    assert ended(fail, seconds=30) == (WorkerDied, 0)


def test_a_cancellation_from_outside_is_no_time_out():
    assert ended(lambda: asyncio.sleep(30), seconds=30, cancel_after=0.01) == (asyncio.CancelledError, 1)


def test_a_cancellation_from_outside_wins_over_the_deadline():
    async def wait():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            asyncio.current_task().cancel()
            await asyncio.sleep(30)

    assert ended(wait) == (asyncio.CancelledError, 1)
