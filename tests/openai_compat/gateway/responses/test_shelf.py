"""What is kept, and what happens where it cannot be: a full disk, too long a chain, the file of an earlier version."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from openai_compat.config import Config
from openai_compat.config import Storage as Settings
from openai_compat.errors import InvalidRequest, Unavailable
from openai_compat.gateway.asking import Asker
from openai_compat.gateway.responses.answers import Answers
from openai_compat.gateway.responses.history import MAX_TURNS, Wanted
from openai_compat.gateway.responses.orders import Order
from openai_compat.gateway.responses.records import draft_of
from openai_compat.gateway.responses.rows import CONVERSATION, RESPONSE
from openai_compat.gateway.responses.shelf import Shelf
from openai_compat.gateway.store.database import Database
from openai_compat.gateway.store.schema import MIGRATIONS
from openai_compat.gateway.store.storage import Storage
from openai_compat.grants import ANYBODY
from openai_compat.translate.responses import read_items, to_turn
from schemas.responses import CreateResponseRequest


def order(id: str, said: str = "x", previous: str | None = None) -> Order:
    request = CreateResponseRequest(model="m", input=said, previous_response_id=previous)
    inputs = read_items(said)
    return Order(
        id=id, created=1, owner="me", request=request, turn=to_turn(request, [], inputs), inputs=inputs, conversation=None,
        until=0, keeps=True, asker=Asker(grant=ANYBODY, request_id="r"),
    )  # fmt: skip


async def keep(shelf: Shelf, made: Order) -> Any:
    answering = made.answering()
    answering.begin()
    answering.finish()
    return await Answers(None, shelf).keep(made, answering.response)  # type: ignore[arg-type]


@pytest.fixture
def shelved(tmp_path: Path) -> Any:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Shelf, Storage]]:
        config = Config(storage=Settings(dir=str(tmp_path / "kept")))
        storage = Storage(config)
        try:
            yield Shelf(config, storage), storage
        finally:
            await storage.close()

    return make


def test_a_full_disk_loses_no_answer_and_the_answer_says_that_it_is_not_kept(shelved, in_time) -> None:
    async def scenario() -> None:
        async with shelved() as (shelf, storage):
            assert (await keep(shelf, order("resp_a"))).store
            database = storage.store.database
            pages = await database.look(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
            await database.look(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())
            made = order("resp_b", "y" * 100_000)
            kept = await keep(shelf, made)
            assert (kept.status, kept.store) == ("completed", False)
            assert await shelf.find(RESPONSE, "resp_b", "me") is None
            with pytest.raises(Unavailable):
                await shelf.add(draft_of(made, kept, expires=2**40))
            await database.look(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
            assert (await keep(shelf, made)).store

    in_time(scenario())


def test_a_chain_ends_somewhere(shelved, in_time) -> None:
    async def scenario() -> None:
        async with shelved() as (shelf, _):
            previous = None
            template = order("resp_0")
            draft = draft_of(template, structs.replace(template.answering().response, status="completed"), expires=2**40)
            for number in range(MAX_TURNS + 1):
                await shelf.add(structs.replace(draft, id=f"resp_{number}", previous=previous))
                previous = f"resp_{number}"
            wanted = Wanted(owner="me", previous=f"resp_{MAX_TURNS - 1}", longest=2**20)
            began = time.monotonic()
            assert len((await shelf.history(wanted)).history) == MAX_TURNS
            assert time.monotonic() - began < 5
            for refused in (structs.replace(wanted, previous=previous), structs.replace(wanted, longest=1000)):
                with pytest.raises(InvalidRequest) as caught:
                    await shelf.history(refused)
                assert caught.value.code == "history_too_large"

    in_time(scenario())


def test_what_has_expired_is_swept_away_with_its_items(shelved, in_time, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with shelved() as (shelf, storage):
            made = order("resp_a", "a canary")
            await shelf.add(draft_of(made, made.answering().response, expires=1))
            await storage.store.media.expire()

    in_time(scenario())
    connection = sqlite3.connect(next((tmp_path / "kept").glob("*.sqlite*")))
    assert [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("objects", "items")] == [(0,)] * 2
    connection.close()


def test_the_store_of_an_earlier_version_is_brought_up_to_date(in_time, tmp_path: Path) -> None:
    """With what is in it."""

    async def scenario() -> tuple[Any, ...]:
        old = Database(tmp_path / "store", MIGRATIONS[:3])
        await old.open()
        statement = (
            "INSERT INTO objects (id, kind, owner, status, created, body) VALUES ('v', 'video', 'me', 'queued', 1, '{}')"
        )
        await old.run(lambda connection: connection.execute(statement))
        await old.close()
        new = Database(tmp_path / "store")
        await new.open()
        found: tuple[Any, ...] = await new.look(
            lambda connection: connection.execute("SELECT id, status, previous, size FROM objects").fetchone()
        )
        await new.close()
        return found

    assert in_time(scenario()) == ("v", "queued", None, 0)


def test_what_a_key_holds_is_counted_whatever_happens_to_it(shelved, in_time) -> None:
    """Added, finished, appended to, an item removed, deleted, swept: the count of rows and bytes is that of the rows."""

    def held(connection: sqlite3.Connection) -> tuple[Any, Any]:
        counted = "SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE owner = 'me'"
        told = connection.execute("SELECT count, bytes FROM held WHERE owner = 'me'").fetchone()
        return told, connection.execute(counted).fetchone()

    async def scenario() -> None:
        async with shelved() as (shelf, storage):
            made = order("resp_a")
            response = structs.replace(made.answering().response, status="queued")
            draft = draft_of(made, response, expires=2**40)
            talk = structs.replace(draft, id="conv_a", kind=CONVERSATION, said=made.inputs, inputs=())
            item = [{"id": "msg_a", "type": "message"}]
            steps: list[Any] = [
                lambda: shelf.add(draft),
                lambda: shelf.add(talk),
                lambda: shelf.append("conv_a", "me", item),
                lambda: shelf.finish(structs.replace(draft, status="completed", outputs=item), "conv_a"),
                lambda: shelf.add(structs.replace(draft, id="resp_b", status="completed", expires=1)),
                lambda: storage.store.media.expire(),
                lambda: shelf.remove("resp_a"),
            ]
            for step in steps:
                await step()
                told, found = await storage.store.database.look(held)
                assert told == found
            assert told[0] == 1
            row = await shelf.item("conv_a", "said", "msg_a")
            await shelf.remove_item("conv_a", row)
            told, found = await storage.store.database.look(held)
            assert told == found

    in_time(scenario())
