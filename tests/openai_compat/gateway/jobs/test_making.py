"""One video against a replica that does what the test wants: refuses, is busy, breaks off, talks nonsense."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from openai_compat.config import Config, Metering, Price
from openai_compat.config import Storage as Settings
from openai_compat.errors import APIError, DeadlineExceeded, ModelUnavailable, Unavailable, WorkerDied, error_body
from openai_compat.gateway.jobs.making import Made, Maker, Refused
from openai_compat.gateway.jobs.record import KIND, VideoRecord
from openai_compat.gateway.metering.cost import Counts, amount
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.tally import OnUsage, Tally
from openai_compat.gateway.replica import Call, NotBegun, ReplicaLost
from openai_compat.gateway.store.storage import Storage
from openai_compat.http.parcels import Kind, parcel
from openai_compat.protocol import RelayFacts
from schemas.videos import CreateVideoRequest

FACTS = json.dumps({"frames": 4, "rate": 2.0, "width": 8, "height": 6}).encode()
STEP = parcel(Kind.PROGRESS, b'{"done":1,"total":2}')
WHOLE = [STEP, parcel(Kind.FACTS, FACTS), parcel(Kind.THUMBNAIL, b"small"), parcel(Kind.CONTENT, b"film"), parcel(Kind.END)]
RECORD = VideoRecord(model_id="m", model="sora", mode="wild", request=CreateVideoRequest(prompt="sea", model="sora"))


class Answer:
    headers: list[Any] = []  # noqa: RUF012 -- never changed

    def __init__(self, *pieces: bytes | Exception, status: int = 200) -> None:
        self.status = status
        self.pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def failure(status: int, error: APIError) -> Answer:
    return Answer(json.dumps(error_body(error)).encode(), status=status)


class Pool:
    """Gives the answers in their order; an exception is raised where the replica is reached."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []
        self.discarded = self.suspected = self.left = 0
        self.request_id = "r.2"
        self.replica = self
        self.ledger = Ledger(Metering())
        self.on_usage: OnUsage | None = None

    def account(self, owner: str, model_id: str) -> Tally:
        tally = self.ledger.account(owner)
        tally.aim(model_id, Price(prompt=1.0, request=0.5))
        return tally

    @property
    def booked(self) -> list[tuple[str, str, int, int, float]]:
        sums = self.ledger.counters.since_start.items()
        return [(place.key_id, place.label, one.requests, one.tokens, amount(one.cost)) for place, one in sums]

    async def acquire(self, model_id: str, *, wait: float | None = None, request_id: str = "") -> Any:
        if isinstance(self.answers[0], Unavailable):
            raise self.answers.pop(0)  # type: ignore[misc]
        return self

    @asynccontextmanager
    async def forward(self, call: Call) -> AsyncIterator[Answer]:
        self.calls.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield answer

    def discard(self) -> None:
        self.discarded += 1

    def suspect(self) -> None:
        self.suspected += 1

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        """The worker took seven tokens, whatever came of it, unless it was not reached or died."""
        self.left += 1
        if self.on_usage is not None:
            self.on_usage(None if self.discarded or self.suspected else Counts(7, 0))


@pytest.fixture
def make(tmp_path: Path, in_time: Callable[[Awaitable[Any]], Any]) -> Callable[..., tuple[Made, list[int]]]:
    """Make one video; what raises must leave no file."""

    def run(pool: Pool, *, timeout: float = 30.0, quota: int = 1000) -> tuple[Made, list[int]]:
        async def scenario() -> tuple[Made, list[int]]:
            storage = Storage(Config(storage=Settings(dir=str(tmp_path / "kept"), quota=quota)))
            store = await storage.open()
            await store.objects(KIND).add("v", owner="me", status="in_progress", created=1, body=b"{}")
            told: list[int] = []
            try:
                return await Maker(pool, timeout, pool.account).make("v", "me", RECORD, store.media, told.append), told
            except Exception:
                assert (list((tmp_path / "kept" / "media").iterdir()), store.media.used) == ([], 0)
                raise
            finally:
                await storage.close()

        return in_time(scenario())  # type: ignore[no-any-return]

    return run


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_parcels_become_files_and_progress(make, tmp_path: Path, size: int) -> None:
    stream = b"".join(WHOLE)
    pool = Pool(Answer(*(stream[i : i + size] for i in range(0, len(stream), size))))
    made, told = make(pool)
    assert told == [49]
    assert (made.film.frames, made.film.rate, made.film.width, made.film.height) == (4, 2.0, 8, 6)
    contents = {path.name: path.read_bytes() for path in (tmp_path / "kept" / "media").iterdir()}
    assert contents == {made.video: b"film", made.thumbnail: b"small"}
    assert pool.left == 1


def test_the_worker_is_told_what_the_gateway_knows(make) -> None:
    pool = Pool(Answer(*WHOLE))
    make(pool, timeout=20.0)
    [call] = pool.calls
    facts = RelayFacts.from_headers({name.decode(): value.decode() for name, value in call.headers})
    assert (facts.request_id, facts.model, facts.public_model, facts.mode, facts.cache_salt) == (
        "r.2",
        "m",
        "sora",
        "wild",
        "me",
    )
    assert 10 < facts.deadline <= 20
    assert json.loads(call.body)["prompt"] == "sea"  # type: ignore[arg-type]


def test_a_model_that_cannot_be_had_just_now_is_asked_again(make) -> None:
    busy = failure(429, Unavailable("busy", code="rate_limit_exceeded"))
    pool = Pool(ModelUnavailable("failed a moment ago", retry_after=0.01), NotBegun(), busy, Answer(*WHOLE))
    made, _ = make(pool)
    assert made.film.frames == 4
    assert (pool.discarded, pool.suspected) == (1, 0)


@pytest.mark.parametrize("error", [ModelUnavailable("refused by the scan", retry=False), ModelUnavailable("no such file")])
def test_a_model_that_can_never_be_had_is_asked_once(make, error: ModelUnavailable) -> None:
    with pytest.raises(ModelUnavailable):
        make(Pool(error, Answer(*WHOLE)))


REFUSAL = APIError("Too large.", param="size", code="c")


@pytest.mark.parametrize(
    "answer", [failure(400, REFUSAL), Answer(STEP, parcel(Kind.ERROR, json.dumps(error_body(REFUSAL)).encode()))]
)
def test_what_the_model_refuses_keeps_its_words(make, answer: Answer) -> None:
    with pytest.raises(Refused) as caught:
        make(Pool(answer))
    assert (caught.value.detail.message, caught.value.detail.param, caught.value.detail.code) == ("Too large.", "size", "c")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(*WHOLE[:4], ReplicaLost()),
        Answer(*WHOLE[:4]),
        Answer(b"<html>nonsense"),
        Answer(parcel(Kind.END)),
        Answer(b"<html>", status=500),
    ],
)
def test_a_worker_that_breaks_off_or_talks_nonsense_has_died(make, answer: Answer) -> None:
    pool = Pool(answer)
    with pytest.raises(WorkerDied):
        make(pool)
    assert pool.suspected == 1


@pytest.mark.parametrize(
    ("answer", "booked"),
    [
        (Answer(*WHOLE), [("me", "m", 1, 7, 0.5 + 7e-6)]),
        (failure(400, APIError("no")), [("me", "m", 0, 7, 7e-6)]),
        (Answer(STEP), []),
    ],
    ids=["made", "refused", "broken off"],
)
def test_a_video_is_paid_for_where_it_was_made_and_its_tokens_where_they_were_counted(make, answer: Answer, booked) -> None:
    pool = Pool(answer)
    with suppress(Refused, WorkerDied):
        make(pool)
    assert pool.booked == booked


def test_a_full_store_ends_the_making(make) -> None:
    with pytest.raises(Unavailable) as caught:
        make(Pool(Answer(*WHOLE)), quota=3)
    assert caught.value.code == "storage_full"


def test_time_spent_on_waiting_counts(make) -> None:
    with pytest.raises(DeadlineExceeded):
        make(Pool(ModelUnavailable("later", retry_after=20.0), Answer(*WHOLE)), timeout=0.05)
