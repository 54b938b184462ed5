"""Equal requests of one key get the answer that is kept, and nobody else does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from openai_compat.config import AnswerCache as Settings
from openai_compat.config import Metering, Price
from openai_compat.gateway.answer_cache import NAME, AnswerCache, Cached
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.order import Envelope, Order
from openai_compat.grants import Grant
from openai_compat.http.endpoint import Endpoint

CHAT = "/v1/chat/completions"
JSON = [(b"Content-Type", b"application/json"), (b"x-request-id", b"one"), (b"date", b"today")]
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
ASK = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "Hi"}]}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A cache, and requests as they come to it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.cache = AnswerCache(Settings(**{"size": 100_000, "ttl": 60.0, **settings}), clock=self.clock)
        self.ledger = Ledger(Metering())

    def order(
        self, fields: dict[str, Any] | bytes, *, key: str = "k", path: str = CHAT, headers: dict[str, str] | None = None
    ) -> Order:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        envelope = Envelope(temperature=None if isinstance(fields, bytes) else fields.get("temperature"))
        tally = self.ledger.open(Grant(key_id=key), path=path, body=body, envelope=envelope)
        tally.aim("target", Price(request=1.0))
        return Order(
            method="POST",
            path=path,
            query="",
            headers=[(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            body=body,
            envelope=envelope,
            public_name="m",
            request_id="r",
            key_id=key,
            deadline=0.0,
            tally=tally,
            endpoint=Endpoint(dict, lambda request: "generate_text"),  # type: ignore[arg-type]
            scope={},  # type: ignore[typeddict-item]
        )

    def keep(self, order: Order, *chunks: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] = JSON) -> None:
        recorder = self.cache.recorder(order)
        assert recorder is not None
        with recorder:
            recorder.start(status, headers)
            for chunk in chunks:
                recorder.saw(chunk)
            recorder.finish()

    def found(self, fields: dict[str, Any] | bytes, **options: Any) -> Cached | None:
        return self.cache.lookup(self.order(fields, **options))


@pytest.fixture
def shelf() -> Callable[..., Shelf]:
    return Shelf


def body_of(cached: Cached) -> bytes:
    async def read() -> bytes:
        return b"".join([chunk async for chunk in cached.chunks()])

    return asyncio.run(read())


def test_an_equal_request_gets_the_answer_as_it_was(shelf) -> None:
    s = shelf()
    assert s.found(ASK) is None
    s.keep(s.order(ASK), b'{"a": ', b"1}")
    cached = s.found(ASK)
    assert (cached.status, body_of(cached)) == (200, b'{"a": 1}')
    assert cached.headers == [(b"content-type", b"application/json"), (b"content-length", b"8"), (NAME, b"hit")]


def test_a_stream_is_replayed_with_its_events_and_its_type(shelf) -> None:
    s = shelf()
    asked = {**ASK, "stream": True}
    s.keep(s.order(asked), b"data: 1\n\n", b"data: 2\n\ndata: [DONE]\n\n", headers=EVENTS)
    cached = s.found(asked)
    assert body_of(cached) == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    assert cached.headers == [(b"content-type", b"text/event-stream; charset=utf-8"), (NAME, b"hit")]
    assert s.found(ASK) is None


@pytest.mark.parametrize(
    "same",
    [dict(reversed(ASK.items())), {**ASK, "user": "somebody"}, {**ASK, "safety_identifier": "x"}],
    ids=["order of fields", "user", "safety identifier"],
)
def test_what_makes_no_difference(shelf, same) -> None:
    s = shelf()
    s.keep(s.order(ASK), b"{}")
    assert s.found(same) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"stream": True},
        {"stream_options": {"include_usage": True}},
        {"seed": 1},
        {"model": "n"},
        {"temperature": 0.0},
        {"messages": [{"role": "user", "content": "Hi "}]},
        {"unknown": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_makes_a_difference(shelf, change) -> None:
    s = shelf()
    s.keep(s.order(ASK), b"{}")
    assert s.found({**ASK, **change}) is None


def test_another_key_never_gets_it(shelf) -> None:
    s = shelf()
    s.keep(s.order(ASK, key="a"), b"{}")
    assert s.found(ASK, key="b") is None
    assert s.found(ASK, key="a") is not None


def test_fields_cannot_be_shifted_into_one_another(shelf) -> None:
    s = shelf()
    s.keep(s.order({"temperature": 0, "ab": "c"}), b"{}")
    assert s.found({"temperature": 0, "a": "bc"}) is None


@pytest.mark.parametrize("temperature", [0.1, 1, None, "0", False, True, [0]])
def test_only_temperature_zero_is_kept_where_that_is_the_rule(shelf, temperature) -> None:
    s = shelf()
    assert s.cache.recorder(s.order({**ASK, "temperature": temperature})) is None


def test_a_request_may_ask_for_it_by_a_header_where_that_is_the_rule(shelf) -> None:
    s = shelf(when="header")
    warm = {**ASK, "temperature": 1}
    assert s.cache.recorder(s.order(ASK)) is None
    s.keep(s.order(warm, headers={"x-cache": "use"}), b"{}")
    assert s.found(warm, headers={"x-cache": "Use"}) is not None
    assert s.found(warm) is None


@pytest.mark.parametrize("directive", ["no-store", "no-cache", "max-age=0, No-Cache"])
def test_cache_control_passes_it_by(shelf, directive: str) -> None:
    s = shelf()
    s.keep(s.order(ASK), b"{}")
    order = s.order(ASK, headers={"cache-control": directive})
    assert s.cache.lookup(order) is None
    assert s.cache.recorder(order) is None


@pytest.mark.parametrize("status", [201, 206, 400, 429, 500])
def test_only_a_200_is_kept(shelf, status: int) -> None:
    s = shelf()
    s.keep(s.order(ASK), b"{}", status=status)
    assert s.found(ASK) is None


@pytest.mark.parametrize(
    "events",
    [b"data: 1\n\n", b'data: 1\n\ndata: {"error": {}}\n\n', b'data: {"error": {}}\n\ndata: [DONE]\n\n', b""],
    ids=["no end", "an error at the end", "an error and an end", "nothing"],
)
def test_a_stream_that_did_not_end_well_is_not_kept(shelf, events: bytes) -> None:
    s = shelf()
    s.keep(s.order({**ASK, "stream": True}), events, headers=EVENTS)
    assert s.cache.held == 0


def test_an_answer_broken_off_is_let_go_of(shelf) -> None:
    s = shelf()
    recorder = s.cache.recorder(s.order(ASK))
    with recorder:
        recorder.start(200, JSON)
        recorder.saw(b"x" * 1000)
        assert s.cache.recording == 1000
    assert (s.cache.recording, s.cache.held, s.found(ASK)) == (0, 0, None)


def test_an_answer_lives_as_long_as_it_was_given(shelf) -> None:
    s = shelf(ttl=10.0)
    s.keep(s.order(ASK), b"{}")
    s.clock.now = 9.9
    assert s.found(ASK) is not None
    s.clock.now = 10.0
    assert s.found(ASK) is None
    assert s.cache.held == 0


def test_the_one_longest_unused_makes_room(shelf) -> None:
    s = shelf(size=10_000)
    asked = [{**ASK, "seed": i} for i in range(5)]
    for one in asked[:4]:
        s.keep(s.order(one), b"x" * 1000)
    s.found(asked[0])
    s.keep(s.order(asked[4]), b"x" * 1000)
    assert [s.found(one) is not None for one in asked] == [True, False, True, True, True]
    assert s.cache.held <= 10_000


def test_an_answer_that_is_too_large_is_let_go_of_while_it_comes(shelf) -> None:
    s = shelf(size=8000)
    recorder = s.cache.recorder(s.order(ASK))
    with recorder:
        recorder.start(200, JSON)
        for _ in range(10):
            recorder.saw(b"x" * 300)
        assert s.cache.recording == 0
        recorder.finish()
    assert s.found(ASK) is None


def test_answers_under_way_hold_no_more_than_the_cache_may(shelf) -> None:
    s = shelf(size=8000)
    recorders = [s.cache.recorder(s.order({**ASK, "seed": i})) for i in range(20)]
    for recorder in recorders:
        recorder.start(200, JSON)
        recorder.saw(b"x" * 900)
    assert s.cache.recording <= 8000


def test_the_same_answer_again_takes_no_more_room(shelf) -> None:
    s = shelf()
    for _ in range(3):
        s.keep(s.order(ASK), b"{}")
    held = s.cache.held
    s.keep(s.order({**ASK, "seed": 1}), b"{}")
    assert s.cache.held == 2 * held


def test_a_hit_is_a_request_of_no_tokens_that_costs_nothing(shelf) -> None:
    s = shelf()
    s.keep(s.order(ASK), b"{}")
    order = s.order(ASK)
    s.cache.lookup(order)
    order.tally.passed(2)
    order.tally.close(complete=True)
    ((place, sums),) = s.ledger.counters.since_start.items()
    assert (place.label, sums.requests, sums.tokens, sums.estimated, sums.cost) == ("target", 1, 0, 0, 0)


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/videos"])
def test_pictures_and_videos_are_never_kept(shelf, path: str) -> None:
    s = shelf()
    assert s.cache.recorder(s.order(ASK, path=path)) is None


def test_it_is_off_without_a_size(shelf) -> None:
    s = shelf(size=0)
    assert s.cache.recorder(s.order(ASK)) is None
    assert s.found(ASK) is None


def test_who_asks_counts_where_the_answer_says_it_again(shelf) -> None:
    s = shelf()
    s.keep(s.order({**ASK, "user": "a"}, path="/v1/responses"), b"{}")
    assert s.found({**ASK, "user": "b"}, path="/v1/responses") is None


def test_an_answer_of_another_version_of_the_api_is_another(shelf) -> None:
    s = shelf()
    s.keep(s.order(ASK, headers={"openai-beta": "one"}), b"{}")
    assert s.found(ASK, headers={"openai-beta": "two"}) is None
    assert s.found(ASK) is None
    assert s.found(ASK, headers={"openai-beta": "one", "accept": "*/*"}) is not None


def test_a_body_of_so_many_fields_that_others_would_wait_for_them_is_not_looked_up() -> None:
    shelf = Shelf()
    fields = ASK | {f"k{number}": 1 for number in range(140_000)}
    assert shelf.cache.recorder(shelf.order(ASK)) is not None
    assert shelf.cache.recorder(shelf.order(fields)) is None
