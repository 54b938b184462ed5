"""Responses without their client: waiting, running, streamed from any event on, cancelled, cut off by the end of a server."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from openai_compat.config import Config, Storage
from openai_compat.errors import APIError, ModelLoading, NotFound, RateLimited, Unavailable
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.responses.background import patiently
from openai_compat.gateway.responses.desks import Desks
from openai_compat.gateway.store.place import DATABASE
from openai_compat.gateway.store.storage import Storage as StorageOf

SLOW = "[[delay=0.02]] [[tokens=2000]] sea"
SHORT = "[[delay=0.01]] [[tokens=20]] sea"
CUT_OFF = {"code": "server_error", "message": "The server was restarted before the response was finished."}


def start(client: Any, said: str = SLOW, **body: Any) -> str:
    found = client.ask(said, background=True, **body).json()
    assert (found["status"], found["background"], found["output"]) == ("queued", True, [])
    return str(found["id"])


def test_it_is_answered_at_once_and_made_later(served, text_of) -> None:
    with served() as client:
        found = client.until(start(client, "hello"), "completed")
        assert text_of(found) == "hello"
        assert client.get(f"/v1/responses/{found['id']}/input_items").json()["data"][0]["content"][0]["text"] == "hello"
        assert client.ask("two", previous_response_id=found["id"]).json()["usage"]["input_tokens"] == 3


def test_its_events_can_be_read_from_any_one_on_while_it_runs_and_afterwards(served, events_of) -> None:
    with served() as client:
        first = events_of(client.ask(SHORT, background=True, stream=True).text)
        assert [event["type"] for event in first[:3]] == ["response.created", "response.queued", "response.in_progress"]
        assert [event["sequence_number"] for event in first] == list(range(len(first)))
        assert first[-1]["type"] == "response.completed"
        url = f"/v1/responses/{first[-1]['response']['id']}?stream=true"
        assert events_of(client.get(url).text) == first
        assert events_of(client.get(f"{url}&starting_after=7").text) == first[8:]
        assert events_of(client.get(f"{url}&starting_after={len(first)}").text) == []


WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
CALL = '{"name": "weather", "arguments": {"city": "Rome"}}'


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (SHORT, {}),
        ("[[reasoning_parser=think]] [[answer=<think>why not</think>It is so]]", {}),
        ("[[reasoning_parser=think]] [[answer=<think>why not</think>It is so]]", {"reasoning": {"summary": "auto"}}),
        (f"[[tool_parser=json]] [[answer={CALL}]]", {"tools": [WEATHER]}),
    ],
    ids=["words", "reasoning", "summary", "call"],
)
def test_after_a_restart_its_events_are_made_again(served, events_of, said: str, asked: dict[str, Any]) -> None:
    with served() as client:
        first = events_of(client.ask(said, background=True, stream=True, **asked).text)
        assert first[-1]["type"] == "response.completed"
    url = f"/v1/responses/{first[-1]['response']['id']}?stream=true"
    with served() as client:
        again = events_of(client.get(url).text)
        kinds = [event["type"] for event in first]
        whole = [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]  # runs of deltas as one
        assert [event["type"] for event in again] == whole
        assert [event.keys() for event in again] == [first[kinds.index(event["type"])].keys() for event in again]
        assert again[-1] == first[-1]
        assert [event["sequence_number"] for event in again[:-1]] == list(range(len(again) - 1))
        texts = ["".join(event["delta"] for event in events if "delta" in event) for events in (first, again)]
        assert texts[0] == texts[1]
        assert events_of(client.get(f"{url}&starting_after=4").text) == first[-1:]
        assert client.get(f"{url}&starting_after={len(first)}").text == ""
        assert client.get(f"{url}&starting_after=-1").status_code == 400


def test_cancelling_ends_it_at_once_and_a_second_time_changes_nothing(served, events_of) -> None:
    with served() as client:
        id = start(client)
        while not client.until(id, "in_progress")["output"]:
            time.sleep(0.02)
        first = client.post(f"/v1/responses/{id}/cancel").json()
        assert first["status"] == "cancelled"
        assert first["output"][0]["status"] == "incomplete"
        assert client.post(f"/v1/responses/{id}/cancel").json() == first == client.get(f"/v1/responses/{id}").json()
        events = events_of(client.get(f"/v1/responses/{id}?stream=true").text)
        assert events[-1]["type"] == "response.output_text.delta"
        done = client.until(start(client, "x"), "completed")
        assert client.post(f"/v1/responses/{done['id']}/cancel").json() == done
    with served() as client:
        assert client.get(f"/v1/responses/{id}").json() == first


def test_one_that_runs_can_be_deleted(served) -> None:
    with served() as client:
        id = start(client)
        client.until(id, "in_progress")
        assert client.delete(f"/v1/responses/{id}").json()["deleted"]
        assert client.get(f"/v1/responses/{id}").status_code == 404


def test_a_few_run_a_few_wait_and_more_are_too_many(served, bearer) -> None:
    with served(keys=("a", "b"), background_at_once=1, background_waiting=2) as client:
        ids = [client.ask(SLOW, key="a", background=True).json()["id"]]
        deadline = time.monotonic() + 20
        while client.get(f"/v1/responses/{ids[0]}", headers=bearer("a")).json()["status"] == "queued":
            assert time.monotonic() < deadline
        ids += [client.ask(SLOW, key="a", background=True).json()["id"] for _ in range(2)]
        refusal = client.ask(SLOW, key="a", background=True)
        assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "30")
        assert client.ask("x", key="b", background=True).status_code == 200
        assert client.post(f"/v1/responses/{ids[2]}/cancel", headers=bearer("a")).json()["status"] == "cancelled"
        assert client.ask("x", key="a", background=True).status_code == 200
        for id in ids:
            client.post(f"/v1/responses/{id}/cancel", headers=bearer("a"))


def test_the_end_of_a_server_fails_what_it_does_not_finish(served) -> None:
    with served(background_at_once=1) as client:
        running = start(client)
        client.until(running, "in_progress")
        waiting = start(client)
    with served() as client:
        for id in (running, waiting):
            found = client.get(f"/v1/responses/{id}").json()
            assert (found["status"], found["error"]) == ("failed", CUT_OFF)


@pytest.mark.slow
def test_a_server_in_whose_file_nothing_can_be_written_ends_soon(served, kept: Path) -> None:
    """However much is unfinished; the next server tells what became of it."""
    with ExitStack() as stack:
        with served(background_at_once=1) as client:
            ids = [start(client) for _ in range(8)]
            other = stack.enter_context(closing(sqlite3.connect(kept / DATABASE, isolation_level=None)))
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
        assert time.monotonic() - began < 25
    with served() as client:
        assert {client.get(f"/v1/responses/{id}").json()["status"] for id in ids} == {"failed"}


@pytest.mark.slow
def test_a_server_begins_also_where_what_was_cut_off_cannot_be_written(served, kept: Path, in_time) -> None:
    with served(background_at_once=1) as client:
        id = start(client)
    config = Config(storage=Storage(dir=str(kept)))

    async def scenario() -> None:
        storage = StorageOf(config)
        await storage.open()
        try:
            with closing(sqlite3.connect(kept / DATABASE, isolation_level=None)) as other:
                other.execute("UPDATE objects SET status = 'queued'")
                other.execute("BEGIN IMMEDIATE")
                desks = Desks(config, storage, Ledger(config.metering), None, None, None)  # type: ignore[arg-type]
                await desks.start()
                assert (await desks.responses.get(id, "")).status == "failed"
        finally:
            await storage.close()

    in_time(scenario())


def test_a_server_that_is_given_time_finishes_what_runs(served, text_of) -> None:
    with served(server={"shutdown_grace": 20.0}) as client:
        id = start(client, SHORT)
        client.until(id, "in_progress", "completed")
    with served() as client:
        assert client.get(f"/v1/responses/{id}").json()["status"] == "completed"


def test_a_refusal_that_will_pass_is_waited_for_and_another_is_not(in_time) -> None:
    refusals: list[APIError] = [RateLimited("now", retry_after=0.01), ModelLoading("now", retry_after=0.01)]

    async def open() -> str:
        if refusals:
            raise refusals.pop()
        return "opened"

    assert in_time(patiently(open)) == "opened"
    for refusal in (RateLimited("ever", retry=False, retry_after=1), Unavailable("ever"), NotFound("ever")):
        refusals.append(refusal)
        with pytest.raises(type(refusal)):
            in_time(patiently(open))


@pytest.mark.parametrize("said", ["[[fail_after=2]] a b c d", "[[fail_after=0]] a"])
def test_what_goes_wrong_is_told_by_the_response(served, said: str, events_of) -> None:
    with served() as client:
        found = client.until(start(client, said), "failed", "completed")
        assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
        events = events_of(client.get(f"/v1/responses/{found['id']}?stream=true").text)
        assert (events[-1]["type"], events[-1]["response"]) == ("response.failed", found)
