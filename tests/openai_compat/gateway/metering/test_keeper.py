"""What was used outlives the server, off the requests' way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from openai_compat.config import Config, Metering, Price, Server
from openai_compat.config import Storage as Settings
from openai_compat.errors import RateLimited, Unavailable
from openai_compat.gateway.metering import persistence
from openai_compat.gateway.metering.cost import UNIT
from openai_compat.gateway.metering.counters import HOUR, Place, Sums, Table
from openai_compat.gateway.metering.keeper import UsageKeeper
from openai_compat.gateway.metering.report import UsageReport
from openai_compat.gateway.store.database import Database
from openai_compat.gateway.store.storage import Storage
from openai_compat.grants import ANYBODY
from schemas.usage import UsageCounts, UsageList, UsageQuery


class House:
    """A server's metering, which may end and begin again."""

    def __init__(
        self, desk, clock, folder: Path, *, port: int = 8000, keys: bool = True, interval: float = 1000.0, **limits
    ) -> None:
        self.config = Config(server=Server(cache_dir=str(folder), port=port), metering=Metering(**limits))
        self.desk = desk(**limits)
        self.storage = Storage(self.config)
        self.keeper = UsageKeeper(self.config, self.desk.ledger, self.storage, clock=clock, interval=interval)
        self.report = UsageReport(self.keeper, self.desk.ledger, clock=clock)
        self._keys = keys

    async def __aenter__(self) -> House:
        await self.storage.start()
        await self.keeper.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keeper.close()
        await self.storage.close()

    async def shown(self, key: str, **query) -> UsageList:
        return await self.report.usage(self.desk.grant(key) if self._keys else ANYBODY, UsageQuery(**query))

    async def total(self, key: str, **query) -> UsageCounts:
        return (await self.shown(key, **query)).total


@pytest.fixture
def house(desk, clock, tmp_path) -> Callable[..., House]:
    return lambda **options: House(desk, clock, tmp_path, **options)


def test_nothing_is_made_on_the_disk_before_something_was_used(house, tmp_path, in_time) -> None:
    async def scenario() -> None:
        async with house():
            pass
        assert list(tmp_path.iterdir()) == []

    in_time(scenario())


def test_what_was_used_is_there_after_a_restart(house, in_time) -> None:
    async def scenario() -> None:
        async with house() as first:
            first.desk.spend(100, "a", price=Price(prompt=0.1, completion=0.7))
            before = await first.total("a")
        async with house() as second:
            assert await second.total("a") == before
            second.desk.spend(100, "a", price=Price(prompt=0.1, completion=0.7))
            after = await second.total("a")
        assert (before.requests, before.prompt_tokens, before.completion_tokens, before.total_tokens) == (1, 4, 96, 100)
        assert before.cost == 67.6e-6
        assert (after.requests, after.total_tokens, after.cost) == (2, 200, 135.2e-6)

    in_time(scenario())


def test_a_key_sees_its_own_and_without_keys_everything_is_seen(house, in_time) -> None:
    async def scenario() -> None:
        async with house() as first:
            first.desk.spend(10, "a")
            first.desk.spend(30, "b")
            assert [(await first.total(key)).total_tokens for key in ("a", "b", "c", "")] == [10, 30, 0, 0]
        async with house(keys=False) as second:
            second.desk.spend(5, "")
            assert (await second.total("")).total_tokens == 45

    in_time(scenario())


def test_it_is_shown_by_day_and_model_the_newest_first(house, clock, in_time) -> None:
    async def scenario() -> None:
        async with house() as h:
            for hours, tokens in ((0, 10), (5, 20), (24, 30)):
                clock.now += hours * HOUR
                h.desk.spend(tokens, "a")
            tally = h.desk.open("a")
            tally.aim("other", Price())
            tally.used(7, 8)
            tally.close(complete=True)
            shown = await h.shown("a")
            assert [(day.date, day.model, day.total_tokens) for day in shown.data] == [
                ("2027-01-16", "m", 30),
                ("2027-01-16", "other", 15),
                ("2027-01-15", "m", 30),
            ]
            assert (shown.total.requests, shown.total.total_tokens) == (4, 75)
            assert [day.total_tokens for day in (await h.shown("a", days=1)).data] == [30, 15]
            assert (await h.total("a", model="other")).total_tokens == 15
            assert (await h.total("a", model="none")).total_tokens == 0

    in_time(scenario())


def test_it_is_written_while_the_server_runs(house, in_time) -> None:
    async def scenario() -> None:
        async with house(interval=0.01) as h:
            h.desk.spend(10, "a")
            database = (await h.storage.open()).database
            while not (written := await persistence.read(database, key_id="a", since=0, model=None)):
                await asyncio.sleep(0.005)
            assert [sums.tokens for sums in written.values()] == [10]
            h.desk.spend(10, "a")
            assert (await h.total("a")).total_tokens == 20

    in_time(scenario())


def test_what_could_not_be_written_is_kept_and_shown_and_written_later(house, in_time, monkeypatch, caplog) -> None:
    async def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async def scenario() -> None:
        async with house() as h:
            h.desk.spend(10, "a")
            with monkeypatch.context() as patch:
                patch.setattr(persistence, "write", broken)
                await h.keeper.close()
            assert (await h.total("a")).total_tokens == 10
        assert "could not be written" in caplog.text
        async with house() as again:
            assert (await again.total("a")).total_tokens == 10

    in_time(scenario())


@pytest.mark.parametrize("error", [Unavailable("no room"), OSError(28, "No space left on device")])
def test_a_server_without_room_goes_on_counting(house, in_time, monkeypatch, error) -> None:
    async def nowhere(self: Storage) -> None:
        raise error

    monkeypatch.setattr(Storage, "open", nowhere)

    async def scenario() -> None:
        async with house() as h:
            h.desk.spend(10, "a")
            await h.keeper.close()
            h.desk.spend(10, "a")
            assert (await h.total("a")).total_tokens == 20

    in_time(scenario())


def test_a_server_whose_store_would_end_with_it_keeps_everything_in_memory(house, tmp_path, in_time) -> None:
    async def scenario() -> None:
        async with house(port=0, interval=0.0) as h:
            for _ in range(3):
                h.desk.spend(10, "a")
                await asyncio.sleep(0.01)
            assert (await h.total("a")).total_tokens == 30
        assert list(tmp_path.iterdir()) == []

    in_time(scenario())


def test_the_limits_of_a_day_outlive_the_server(house, clock, in_time) -> None:
    async def scenario() -> None:
        async with house(tokens_per_day=100) as first:
            first.desk.spend(90, "a")
        clock.now += 3600
        async with house(tokens_per_day=100) as second:
            with pytest.raises(RateLimited):
                second.desk.open("a", max_tokens=20)
            second.desk.open("b", max_tokens=20)

    in_time(scenario())


def test_a_configured_folder_holds_it_too(desk, clock, tmp_path, in_time) -> None:
    async def scenario() -> None:
        for expected in (10, 20):
            h = House(desk, clock, tmp_path)
            h.storage = Storage(Config(storage=Settings(dir=str(tmp_path / "mine"))))
            h.keeper = UsageKeeper(Config(storage=Settings(dir=str(tmp_path / "mine"))), h.desk.ledger, h.storage, clock=clock)
            h.report = UsageReport(h.keeper, h.desk.ledger, clock=clock)
            async with h:
                h.desk.spend(10)
                assert (await h.total("k")).total_tokens == expected

    in_time(scenario())


def table(*rows: tuple[str, int, int]) -> Table:
    return {Place(key, "m", hour): Sums(1, tokens, 0, 0, 0, 7 * UNIT // 10) for key, hour, tokens in rows}


def test_costs_are_added_without_loss_in_the_table(tmp_path, in_time) -> None:
    async def scenario() -> None:
        database = Database(tmp_path / "state.sqlite3")
        await database.open()
        for _ in range(10):
            await persistence.write(database, {Place("k", "m", 1): Sums(cost=10**19 + 3 * UNIT // 10 + 1)})
        (sums,) = (await persistence.read(database, key_id=None, since=0, model=None)).values()
        assert sums.cost == 10 * (10**19 + 3 * UNIT // 10 + 1)
        await database.close()

    in_time(scenario())


def test_old_hours_become_days_and_lose_nothing(tmp_path, in_time) -> None:
    async def scenario() -> None:
        database = Database(tmp_path / "state.sqlite3")
        await database.open()
        today = 480_000  # the first hour of a day
        await persistence.write(database, table(*(("k", today - 72 + hour, 1) for hour in range(73)), ("j", today - 72 + 5, 9)))
        for _ in range(2):
            await persistence.tidy(database, today + 3)
            read = await persistence.read(database, key_id=None, since=0, model=None)
            by_key = {(place.key_id, place.hour): (sums.requests, sums.prompt, sums.cost) for place, sums in read.items()}
            assert by_key.pop(("j", today - 72)) == (1, 9, 7 * UNIT // 10)
            assert by_key.pop(("k", today - 72)) == (24, 24, 24 * 7 * UNIT // 10)
            assert by_key == {("k", today - 48 + hour): (1, 1, 7 * UNIT // 10) for hour in range(49)}
        await database.close()

    in_time(scenario())


def test_what_is_too_old_to_be_asked_for_goes(house, clock, in_time) -> None:
    async def scenario() -> None:
        async with house() as first:
            first.desk.spend(10, "a")
        clock.now += 399 * 86_400
        async with house() as second:
            assert (await second.keeper.read(key_id="a", since=0, model=None)) != {}
        clock.now += 2 * 86_400
        async with house() as third:
            assert (await third.keeper.read(key_id="a", since=0, model=None)) == {}

    in_time(scenario())
