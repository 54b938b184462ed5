"""Engines in the pool: started once, counted, evicted, restarted, and ended with everything that they started."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import psutil
import pytest

from openai_compat.config import Config, Model
from openai_compat.errors import ModelUnavailable, WorkerDied
from openai_compat.gateway.supervisor import Supervisor

MIB = 1024**2


def test_an_engine_is_started_once_however_many_ask_for_it(yard, command) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command()}}) as place:
            assert place.state("e") == "unloaded"
            told = await asyncio.gather(*(place.ask("e", f"{number}") for number in range(20)))
            assert sorted(int(answer["body"]["messages"][0]["content"]) for answer in told) == list(range(20))
            assert len(place.logged("start")) == 1
            assert place.state("e") == "ready"

    asyncio.run(check())


def test_it_is_spoken_to_by_its_own_name_under_its_own_path_with_its_own_key(yard, command) -> None:
    async def check() -> None:
        engine = {"name": "theirs", "base_path": "/api/v3"}
        async with yard({"e": {"command": command(), "engine": engine}}) as place:
            told = await place.ask("e")
            assert told["body"]["model"] == "theirs"
            assert told["path"] == "/api/v3/chat/completions"

    asyncio.run(check())


def test_it_gets_no_secret_of_the_gateway_and_what_its_model_says(yard, command, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_COMPAT_AUTH__KEYS", "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("UNHEARD_OF", "1")

    async def check() -> dict[str, str]:
        given = {"WORD": "a{port}", "JSON": '{"a": {}}'}
        async with yard({"e": {"command": command(), "environment": given}}) as place:
            return (await place.ask("e"))["environment"]

    seen = asyncio.run(check())
    assert seen["WORD"][1:].isdigit()
    assert seen["JSON"] == '{"a": {}}'
    assert (seen["PATH"], seen["CUDA_VISIBLE_DEVICES"]) == (os.environ["PATH"], "3")
    assert not {"OPENAI_API_KEY", "OPENAI_COMPAT_AUTH__KEYS", "UNHEARD_OF"} & seen.keys()


def test_its_lease_is_over_when_the_exchange_is(yard, command) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command()}}) as place:
            lease = await place.pool.acquire("e")
            await asyncio.sleep(0.5)  # heartbeats have come that knew nothing of it
            assert place.pool.states()[0].active == 1
            lease.leave()
            assert place.pool.states()[0].active == 0

    asyncio.run(check())


def test_an_idle_engine_is_ended_with_what_it_started(yard, command, gone) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command("--child"), "idle_timeout": 0.2}}) as place:
            await place.ask("e")
            await place.until(lambda: place.state("e") == "unloaded")
            assert len(place.pids()) == 2
            assert all(map(gone, place.pids()))

    asyncio.run(check())


def test_a_dead_engine_is_started_again_by_the_next_request(yard, command) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command("--child")}}) as place:
            await place.ask("e")
            os.kill(int(place.logged("start")[0]), signal.SIGKILL)
            await place.until(lambda: place.state("e") == "unloaded")
            await place.ask("e")
            assert len(place.logged("start")) == 2

    asyncio.run(check())


def test_one_that_dies_whenever_it_is_used_is_held_back(yard, command) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command()}}) as place:
            for _ in range(2):
                lease = await place.pool.acquire("e")
                os.kill(int(place.logged("start")[-1]), signal.SIGKILL)
                await place.until(lambda: place.state("e") == "unloaded")
                lease.leave()
            with pytest.raises(ModelUnavailable, match="failed a moment ago"):
                await place.pool.acquire("e")

    asyncio.run(check())


def test_one_that_never_serves_is_refused_with_the_reason_and_killed(yard, command, gone) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command("--sick", "--child", "--stubborn"), "max_load_time": 1.0}}) as place:
            with pytest.raises(ModelUnavailable, match="took longer than 1 s to load"):
                await place.pool.acquire("e", wait=60)
            assert len(place.pids()) == 2
            assert all(map(gone, place.pids()))
            assert place.memory("e") == 0

    asyncio.run(check())


def test_what_one_said_that_ends_early_is_for_the_log_alone(yard, command, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command("--crash")}}) as place:
            with pytest.raises(WorkerDied, match="The program of the model 'e' ended before it served") as caught:
                await place.pool.acquire("e", wait=60)
            assert "said last" not in caught.value.message

    with caplog.at_level(logging.WARNING):
        asyncio.run(check())
    assert "ended with status 7" in caplog.text
    assert "e said: the key is [key] and this is what it said last" in caplog.text


def test_a_program_that_cannot_be_run_is_refused_as_such(yard, tmp_path) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o755)

    async def check() -> None:
        async with yard(
            {"e": {"command": (str(program), "{port}")}, "absent": {"command": ("no-such-program-anywhere",)}}
        ) as place:
            with pytest.raises(ModelUnavailable, match="The program of the model 'e' could not be started"):
                await place.pool.acquire("e", wait=60)
            with pytest.raises(ModelUnavailable, match="is not on this machine"):
                await place.pool.acquire("absent", wait=60)

    asyncio.run(check())


def test_engine_and_worker_take_turns_where_the_budget_holds_one(yard, command, gone) -> None:
    async def check() -> None:
        models = {"e": {"command": command()}, "w": {"memory": 300 * MIB}}
        async with yard(models, host=350 * MIB) as place:
            for _ in range(2):
                await place.ask("e")
                (await place.pool.acquire("w", wait=60)).abandon()
                assert place.state("e") == "unloaded"
                assert gone(int(place.logged("start")[-1]))
            await place.ask("e")
            assert place.state("w") == "unloaded"
            assert len(place.logged("start")) == 3

    asyncio.run(check())


def test_a_busy_engine_is_not_evicted(yard, command) -> None:
    async def check() -> None:
        models = {"e": {"command": command()}, "f": {"command": command()}}
        async with yard(models, host=150 * MIB) as place:
            lease = await place.pool.acquire("e", wait=60)
            waiting = asyncio.ensure_future(place.ask("f"))
            await asyncio.sleep(0.5)
            assert (place.state("e"), waiting.done()) == ("ready", False)
            lease.leave()
            await waiting
            assert place.state("e") == "unloaded"

    asyncio.run(check())


def test_its_memory_is_that_of_all_its_processes(yard, command) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command("--child"), "memory": 1}}) as place:
            await place.ask("e")
            await place.until(lambda: place.memory("e") > MIB)
            own = psutil.Process(int(place.logged("start")[0])).memory_full_info()
            assert place.memory("e") > getattr(own, "pss", own.uss)

    asyncio.run(check())


def test_a_stubborn_one_is_killed_after_its_own_grace(yard, command, gone) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command("--stubborn"), "engine": {"stop_grace": 0.3}}}) as place:
            await place.ask("e")
            began = asyncio.get_running_loop().time()
            await place.pool.close()
            assert 0.3 <= asyncio.get_running_loop().time() - began < 4.5
            assert all(map(gone, place.pids()))

    asyncio.run(check())


def test_one_that_is_starting_ends_with_the_server(yard, command) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command("--slow", "60", "--child")}}) as place:
            waiting = asyncio.ensure_future(place.pool.acquire("e", wait=60))
            await place.until(lambda: place.logged("start"))
            await place.pool.close()
            with pytest.raises(Exception, match="shutting down"):
                await waiting

    asyncio.run(check())


@pytest.mark.parametrize(("kind", "servers"), [({"command": ("serve", "{port}")}, 0), ({"kind": "echo"}, 1)])
def test_nothing_is_made_ready_for_models_of_our_own_where_there_are_none(kind, servers) -> None:
    async def check() -> int:
        supervisor = Supervisor(Config(models={"m": Model(**kind)}), fork_command=("sleep", "60"))
        await supervisor.start()
        try:
            await asyncio.sleep(0.2)
            return sum(child.name() == "sleep" for child in psutil.Process().children())
        finally:
            await supervisor.close()

    assert asyncio.run(check()) == servers
