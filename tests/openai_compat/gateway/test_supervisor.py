"""Worker processes: private sockets, and none that outlives its gateway, however that ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop

from openai_compat.gateway.rundir import PREFIX, RunDirectory
from openai_compat.gateway.status import StatusServer
from openai_compat.protocol import Heartbeat, Hello, Memory, encode_status

GATEWAY = Path(__file__).parent / "fakes" / "gateway.py"


def mode_of(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)


def test_only_this_user_can_open_the_sockets(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            await world.ask("a")
            folder = world.supervisor._directory.path
            assert mode_of(folder) == 0o700
            sockets = sorted(folder.glob("*.sock"))
            assert [path.name for path in sockets] == ["s.sock", "w1.sock"]
            assert {mode_of(path) for path in sockets} == {0o600}
            assert max(len(os.fsencode(path)) for path in sockets) < 100
        assert not folder.exists()

    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_a_killed_gateway_takes_its_workers_and_the_fork_server_along(way, gone):
    process = subprocess.Popen([sys.executable, GATEWAY, way], stdout=subprocess.PIPE)
    try:
        told = json.loads(process.stdout.readline())
        pids = [*told["workers"], *([told["server"]] if told["server"] else [])]
        assert len(pids) == (3 if way == "fork" else 2)
        assert not any(gone(pid) for pid in pids)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    until(lambda: all(gone(pid) for pid in pids))


def test_the_folder_of_a_killed_gateway_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("openai_compat.gateway.rundir._YOUNG", -1.0)
    living = RunDirectory(tmp_path)
    left = RunDirectory(tmp_path)
    os.close(left._lock)
    foreign = tmp_path / f"{PREFIX}file"
    foreign.write_text("not a folder")
    work = tmp_path / f"{PREFIX}work"
    work.mkdir()
    (work / "lock").touch()
    (work / "thesis.txt").touch()
    RunDirectory(tmp_path).close()
    assert (work / "thesis.txt").exists()
    assert living.path.exists()
    assert foreign.exists()
    assert not left.path.exists()
    living.close()


class Ear:
    def __init__(self):
        self.messages = []
        self.ended = asyncio.Event()

    def heard(self, message):
        self.messages.append(message)

    def silent(self):
        self.ended.set()


@pytest.mark.parametrize(
    "first",
    [
        encode_status(Hello("w1", "wrong", 1)),
        encode_status(Hello("w2", "token", 1)),
        encode_status(Heartbeat(Memory(1))),
        b"GET / HTTP/1.1\r\n",
        b"",
    ],
    ids=["wrong token", "unknown worker", "no greeting", "no status line", "nothing"],
)
def test_a_stranger_on_the_status_socket_is_hung_up_on(tmp_path, first):
    async def scenario():
        ear = Ear()
        server = StatusServer(str(tmp_path / "s"), lambda *claim: ear if claim == ("w1", "token") else None)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(first)
        if not first:
            writer.write_eof()
        assert await reader.read() == b""
        assert ear.messages == []
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_the_end_of_the_status_connection_is_heard_and_so_is_nonsense_on_it(tmp_path):
    async def scenario():
        ear = Ear()
        server = StatusServer(str(tmp_path / "s"), lambda *claim: ear if claim == ("w1", "token") else None)
        await server.start()
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "s"))
        client.sendall(encode_status(Hello("w1", "token", 1)) + encode_status(Heartbeat(Memory(5))) + b"nonsense\n")
        await asyncio.wait_for(ear.ended.wait(), 30)
        assert [type(message) for message in ear.messages] == [Hello, Heartbeat]
        client.close()
        await server.close()

    asyncio.run(scenario())


def test_a_model_with_an_environment_of_its_own_is_spawned_with_it(arena):
    async def scenario():
        async with arena({"a": {"environment": {"OWN": "1"}}, "b": {}}, forks=True) as world:
            await world.ask("a")
            await world.ask("b")
            parents = {
                event[1]: int(Path(f"/proc/{event[2]}/stat").read_text().rpartition(")")[2].split()[1])
                for event in world.events()
            }
            assert parents["a"] == os.getpid()
            assert parents["b"] == world.supervisor._fork_server.pid

    asyncio.run(scenario())


def test_a_wrong_token_does_not_use_up_a_workers_place(arena):
    async def scenario():
        async with arena({"a": {"options": {"hello": 0.5}}}) as world:
            asking = asyncio.create_task(world.ask("a"))
            await world.until(lambda: world.supervisor._expected)
            reader, writer = await asyncio.open_unix_connection(world.supervisor._directory.socket("s"))
            writer.write(encode_status(Hello("w1", "guessed", 1)))
            assert await reader.read() == b""
            writer.close()
            assert (await asking)["facts"]["model"] == "m"

    asyncio.run(scenario())


def test_nothing_is_forked_on_macos(arena, monkeypatch):
    async def scenario():
        monkeypatch.setattr("openai_compat.gateway.supervisor.sys.platform", "darwin")
        async with arena({"a": {}}, forks=True) as world:
            monkeypatch.undo()
            await world.ask("a")
            assert world.supervisor._fork_server is None

    asyncio.run(scenario())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_workers_outlive_the_fork_server_and_new_ones_are_spawned_until_it_is_back(arena, run):
    async def scenario():
        async with arena({"a": {}, "b": {}, "c": {}}, forks=True) as world:
            pid = (await world.ask("a"))["pid"]
            server = world.supervisor._fork_server
            first = server.pid
            os.kill(first, signal.SIGKILL)
            await world.until(lambda: server.pid is None)
            assert (await world.ask("a"))["pid"] == pid
            await world.ask("b")
            await world.until(lambda: server.pid not in (None, first))
            await world.ask("c")
            os.kill(pid, signal.SIGKILL)
            await world.until_state("a", "unloaded")
            assert world.starts("b") == world.starts("c") == 1

    run(scenario())


def test_a_forked_worker_that_ends_is_seen_to_end(arena):
    async def scenario():
        async with arena({"a": {}}, forks=True) as world:
            pid = (await world.ask("a"))["pid"]
            os.kill(pid, signal.SIGKILL)
            await world.until_state("a", "unloaded")
            assert (await world.ask("a"))["pid"] != pid

    asyncio.run(scenario())
