"""What a reload takes over, what it refuses, and how several of them go together."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields, replace

from openai_compat.config import Config, ConfigError, Model, Server, Upstream
from openai_compat.errors import ShuttingDown
from openai_compat.reload import FIXED, RENEWABLE, Reload, changes, check_fixed

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


def settings() -> dict[str, set[str]]:
    """Every field of every section, as ``section.field``."""
    kinds = {field.name: field.type for field in fields(Config)}
    return {
        name: {f"{name}.{field.name}" for field in fields(kind)} if hasattr(kind, "__struct_fields__") else set()
        for name, kind in kinds.items()
    }


def test_each_setting_either_takes_a_restart_or_can_change_and_none_is_both_or_neither() -> None:
    assert not FIXED & RENEWABLE
    for section, names in settings().items():
        assert section in FIXED | RENEWABLE or names <= FIXED | RENEWABLE, section
        if section in FIXED | RENEWABLE:
            assert not names & (FIXED | RENEWABLE), section
    known = {name for section, names in settings().items() for name in (section, *names)}
    assert known >= FIXED | RENEWABLE


def test_the_page_names_what_takes_a_restart_and_what_does_not() -> None:
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", PAGE.partition("## Reading it again")[2].partition("\n## ")[0], re.MULTILINE)
    told = {name.removeprefix("server.") for what, _ in rows for name in re.findall(r"`([\w.]+)`", what)}
    refused = next(what for what, happens in rows if happens.startswith("refused"))
    assert {name.removeprefix("server.") for name in re.findall(r"`([\w.]+)`", refused)} == {
        name.removeprefix("server.") for name in FIXED
    }
    plain = {"models", "upstreams", "routes", "aliases"}  # in words
    assert {name.removeprefix("server.") for name in RENEWABLE} - plain <= told


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (Config(server=Server(port=1)), "server.port takes a restart to change"),
        (Config(server=Server(host="::1", inline=True)), "server.host, server.inline take a restart to change"),
        (Config(admin=replace(Config().admin, listen="unix:/x")), "admin.listen takes a restart to change"),
        (Config(storage=replace(Config().storage, dir="x", quota=1)), "storage.dir, storage.quota take a restart to change"),
    ],
)
def test_what_cannot_change_is_refused_by_name(new: Config, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        check_fixed(Config(), new)
    assert str(refusal.value) == words


def test_what_has_changed_is_told_by_name_and_never_by_value() -> None:
    old = Config(models={"a": Model(), "b": Model()}, upstreams={"u": Upstream(base_url="http://secret")})
    new = Config(models={"b": Model(pin=True), "c": Model()}, server=Server(max_body=1))
    assert list(changes(old, new)) == ["models.a", "models.b", "models.c", "server.max_body", "upstreams.u"]
    assert list(changes(old, old)) == []


class World:
    """A reload over nothing but a number: the configuration's ``max_body``."""

    def __init__(self, *, pause: float = 0.0) -> None:
        self.written: Any = 1
        self.pause = pause
        self.config = Config()
        self.at_once = self.most = self.read = 0
        self.reload = Reload(self._read, lambda: self.config, self._renew)

    def _read(self) -> Config:
        self.read += 1
        written = self.written
        time.sleep(self.pause)
        if isinstance(written, Exception):
            raise written
        return Config(server=Server(max_body=written))

    async def _renew(self, config: Config, commits: tuple[Any, ...]) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(self.pause)
        self.at_once -= 1
        self.config = config
        for commit in commits:
            commit()


def test_reloads_come_one_after_the_other_and_the_last_one_sees_what_was_written_before_it_was_asked_for() -> None:
    async def scenario() -> None:
        world = World(pause=0.05)
        first = asyncio.create_task(world.reload.now())
        await asyncio.sleep(0.02)
        world.written = 7
        world.reload.hangup()
        others = [asyncio.create_task(world.reload.now()) for _ in range(20)]
        assert await asyncio.gather(*others) == [("server.max_body",)] * 20
        await first
        assert (world.most, world.read, world.config.server.max_body) == (1, 2, 7)

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", [ConfigError("no such thing"), RuntimeError("a mistake of ours")])
def test_one_that_fails_leaves_the_old_one_in_force_and_the_next_one_works(failure: Exception, caplog: Any) -> None:
    async def scenario() -> None:
        world = World()
        world.written = failure
        before = world.config
        with pytest.raises(type(failure)):
            await world.reload.now()
        world.reload.hangup()
        await asyncio.sleep(0.1)
        assert world.config is before
        world.written = 2
        await world.reload.now()
        assert world.config.server.max_body == 2

    asyncio.run(scenario())
    assert sum("the configuration was not changed" in message for message in caplog.messages) == 2


def test_whoever_asks_and_leaves_does_not_break_it_off() -> None:
    async def scenario() -> None:
        world = World(pause=0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.reload.now(), 0.01)
        await asyncio.sleep(0.3)
        assert world.config.server.max_body == 1

    asyncio.run(scenario())


def test_what_takes_part_is_made_ready_before_anything_changes_and_put_in_force_with_the_rest() -> None:
    async def scenario() -> None:
        world = World()
        seen: list[int | str] = []
        world.reload.also(lambda config: lambda: seen.append(config.server.max_body))
        await world.reload.now()
        assert seen == [1]

        def refuse(_: Config) -> Any:
            raise ConfigError("the certificate is none")

        world.reload.also(refuse)
        world.written = 2
        with pytest.raises(ConfigError, match="certificate"):
            await world.reload.now()
        assert (seen, world.config.server.max_body) == ([1], 1)

    asyncio.run(scenario())


def test_a_server_that_ends_reads_nothing_any_more() -> None:
    async def scenario() -> None:
        world = World()
        world.reload.refuse()
        with pytest.raises(ShuttingDown):
            await world.reload.now()
        world.reload.hangup()
        await world.reload.close()
        assert world.read == 0

    asyncio.run(scenario())


def test_without_anything_to_read_it_says_so() -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match="not started from a configuration"):
            await Reload(None, Config, World()._renew).now()

    asyncio.run(scenario())
