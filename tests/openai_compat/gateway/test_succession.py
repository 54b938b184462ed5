"""A new configuration over real worker processes: who stays, who is replaced, who goes, and what becomes of those who wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from openai_compat.config import Model
from openai_compat.errors import ModelNotFound
from openai_compat.gateway.succession import LIGHT, keeps_worker

MIB = 1024**2
EVENT = b'data: {"n"'


def renew(world: Any, models: dict[str, Model], *, host: int = 1000 * MIB, prune: bool = True) -> None:
    config = replace(world.config, models=models)
    world.catalog.config = config
    world.pool.renew(config, world.catalog, {"host": host})
    if prune:
        world.pool.prune()


def changed(world: Any, model_id: str, **settings: Any) -> Model:
    return replace(world.config.models[model_id], **settings)


def hosts(world: Any) -> dict[str, int]:
    return {state.model_id: state.memory.get("host", 0) for state in world.pool.states()}


@pytest.mark.parametrize("field", Model.__struct_fields__)
def test_each_setting_of_a_model_needs_a_new_worker_or_is_the_gateways_alone(field) -> None:
    values = {"command": ("x",), "files": (1,), "environment": {"A": "b"}, "options": {"a": 1}, "preload": True, "pin": True}
    values |= {"engine": 1, "price": 1}
    new = replace(Model(), **{field: values.get(field, "3")})
    assert keeps_worker(Model(), new) is (field in LIGHT)


def test_a_worker_whose_model_is_the_same_stays_and_so_does_its_stream(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            lease = await world.pool.acquire("a", request_id="1")
            chunks = world.stream(lease, stream=True, chunks=20, delay=0.02)
            seen = [await anext(chunks)]
            renew(world, {"a": changed(world, "a", idle_timeout=60.0, load_timeout=9.0), "b": changed(world, "a")})
            seen += [chunk async for chunk in chunks]
            lease.leave()
            assert b"".join(seen).count(EVENT) == 20
            await world.ask("a")
            await world.ask("b")
            assert (world.starts("a"), world.starts("b")) == (1, 1)

    asyncio.run(scenario())


def test_a_changed_model_has_a_new_worker_at_once_while_the_old_one_finishes(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            lease = await world.pool.acquire("a", request_id="1")
            chunks = world.stream(lease, stream=True, chunks=80, delay=0.02)
            seen = [await anext(chunks)]
            renew(world, {"a": changed(world, "a", context_length=7)})
            await world.until(lambda: world.starts("a") == 2)
            answer = await world.ask("a", n=2)
            assert answer["body"]["n"] == 2
            assert hosts(world) == {"a": 100 * MIB}
            seen += [chunk async for chunk in chunks]
            lease.leave()
            assert b"".join(seen).count(EVENT) == 80
            await world.until(lambda: [event[0] for event in world.events()].count("end") == 1)
            assert world.events()[-1][2] == world.events()[0][2]

    asyncio.run(scenario())


def test_a_changed_model_waits_for_the_old_one_where_there_is_no_room_for_both(arena):
    async def scenario():
        async with arena({"a": {}}, host=150 * MIB) as world:
            lease = await world.pool.acquire("a", request_id="1")
            chunks = world.stream(lease, stream=True, chunks=40, delay=0.02)
            await anext(chunks)
            renew(world, {"a": changed(world, "a", context_length=7)}, host=150 * MIB)
            waiting = asyncio.create_task(world.ask("a", n=2))
            assert len([chunk async for chunk in chunks])
            assert world.starts("a") == 1
            lease.leave()
            assert (await waiting)["body"]["n"] == 2
        what = [event[0] for event in world.events()]
        assert what == ["start", "end", "start", "end"]

    asyncio.run(scenario())


def test_a_removed_model_is_unknown_at_once_and_ends_when_it_has_answered(arena):
    async def scenario():
        async with arena({"a": {"pin": True, "preload": True}, "b": {}}) as world:
            lease = await world.pool.acquire("a", request_id="1")
            chunks = world.stream(lease, stream=True, chunks=40, delay=0.02)
            seen = [await anext(chunks)]
            renew(world, {"b": changed(world, "b")})
            with pytest.raises(ModelNotFound):
                await world.pool.acquire("a")
            assert world.state("a") == "ready"
            seen += [chunk async for chunk in chunks]
            lease.leave()
            assert b"".join(seen).count(EVENT) == 40
            await world.until(lambda: "a" not in hosts(world))
            assert world.starts("a") == 1

    asyncio.run(scenario())


def test_a_removed_model_is_there_until_the_last_requests_that_knew_it_have_come(arena):
    async def scenario():
        async with arena({"a": {}, "b": {}}) as world:
            await world.ask("a")
            renew(world, {"b": changed(world, "b")}, prune=False)
            assert world.pool.has_removed
            assert (await world.ask("a", n=1))["body"]["n"] == 1
            world.pool.prune()
            assert not world.pool.has_removed
            await world.until(lambda: "a" not in hosts(world))

    asyncio.run(scenario())


def test_who_waits_for_a_changed_model_gets_the_new_one_and_for_a_removed_one_is_told(arena):
    async def scenario():
        async with arena({"a": {}, "b": {}, "full": {}}, host=150 * MIB) as world:
            lease = await world.pool.acquire("full", request_id="1")
            first, second = (asyncio.create_task(world.pool.acquire(name)) for name in ("a", "b"))
            await asyncio.sleep(0.05)
            models = {"a": changed(world, "a", context_length=7), "full": changed(world, "full")}
            renew(world, models, host=150 * MIB)
            with pytest.raises(ModelNotFound):
                await second
            lease.abandon()
            (await first).abandon()
            assert (world.starts("a"), world.starts("b")) == (1, 0)

    asyncio.run(scenario())


def test_a_load_that_nobody_wants_any_more_is_broken_off(arena):
    async def scenario():
        async with arena({"a": {"options": {"load": 60}, "preload": True}}) as world:
            await world.until(lambda: world.starts("a") == 1)
            renew(world, {})
            await world.until(lambda: hosts(world) == {})

    asyncio.run(scenario())


def test_a_model_that_failed_is_tried_again_after_a_reload(arena):
    async def scenario():
        async with arena({"a": {"options": {"fail": "no"}}}) as world:
            for _ in range(2):
                with pytest.raises(Exception, match="no"):
                    await world.pool.acquire("a")
            renew(world, {"a": changed(world, "a", options={})})
            await world.ask("a")

    asyncio.run(scenario())


def test_a_model_that_comes_to_be_preloaded_is_loaded_and_leaves_the_server_ready(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            assert world.pool.preloaded
            renew(world, {"a": changed(world, "a", preload=True), "b": changed(world, "a", preload=True, context_length=3)})
            assert world.pool.preloaded
            await world.until_state("a", "ready")
            await world.until_state("b", "ready")

    asyncio.run(scenario())


def test_many_changes_one_after_the_other_leave_one_worker(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            await world.ask("a")
            for number in range(10):
                renew(world, {"a": changed(world, "a", context_length=number + 1)})
                await asyncio.sleep(0.02)
            assert (await world.ask("a", n=1))["body"]["n"] == 1
            await world.until(lambda: hosts(world) == {"a": 100 * MIB})
            await world.until(lambda: _alive(world) == 1)

    asyncio.run(scenario())


def _alive(world: Any) -> int:
    what = [event[0] for event in world.events()]
    return what.count("start") - what.count("end")
