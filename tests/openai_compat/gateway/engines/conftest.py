"""A pool with real engines, which are small scripts, beside a real worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from openai_compat.config import Config, Engine, Model, Server, Workers
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.engines.launcher import EngineLauncher
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.slot import Lease
from openai_compat.gateway.supervisor import Supervisor

SCRIPT = Path(__file__).parent / "fakes" / "engine.py"
MIB = 1024**2
PATIENCE = 60.0  # seconds after which a test gives up, never what it expects


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


class Yard:
    """A pool, and what its engines wrote down of themselves."""

    def __init__(self, config: Config, host: int, log: Path) -> None:
        self.config = config
        self.log = log
        self.pool = Pool(config, Catalog(config), EngineLauncher(config, Supervisor(config)), limits={"host": host})

    def logged(self, what: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.partition(" ")[2] for line in lines if line.split()[0] == what]

    def pids(self) -> list[int]:
        return [int(pid) for what in ("start", "child") for pid in self.logged(what)]

    def state(self, model_id: str) -> str:
        return next(state.state for state in self.pool.states() if state.model_id == model_id)

    def memory(self, model_id: str) -> int:
        return next(state.memory.get("host", 0) for state in self.pool.states() if state.model_id == model_id)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    async def ask(self, model_id: str, text: str = "hello") -> dict[str, Any]:
        """What the engine was asked, as it tells."""
        with await self.pool.acquire(model_id, wait=PATIENCE) as lease:
            return await asked(lease, text)


async def asked(lease: Lease, text: str) -> dict[str, Any]:
    assert lease.engine is not None
    (name,) = [model.name for model in lease.engine.models.values()]
    body = {"model": name, "messages": [{"role": "user", "content": text}]}
    async with (
        aiohttp.ClientSession(headers=lease.engine.headers) as session,
        session.post(lease.engine.base_url + "/chat/completions", json=body) as response,
    ):
        assert response.status == 200
        told: dict[str, Any] = json.loads((await response.json())["choices"][0]["message"]["content"])
        return told


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    def make(*flags: str) -> tuple[str, ...]:
        return (
            sys.executable,
            str(SCRIPT),
            "--port",
            "{port}",
            "--host",
            "{host}",
            "--log",
            str(tmp_path / "engines.log"),
            *flags,
        )

    return make


@pytest.fixture
def yard(tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Yard]]:
    """Models by their settings; ``engine`` holds those of the engine. One without a command is a real worker that echoes."""

    @contextlib.asynccontextmanager
    async def make(models: dict[str, dict[str, Any]], *, host: int = 1000 * MIB) -> AsyncIterator[Yard]:
        configured = {}
        for name, settings in models.items():
            given = {"memory": 100 * MIB, **settings}
            engine = Engine(**{"stop_grace": 2.0, **given.pop("engine", {})})
            kind = {} if "command" in given else {"kind": "echo"}
            configured[name] = Model(engine=engine, **kind, **given)
        config = Config(
            server=Server(shutdown_grace=5.0, cache_dir=str(tmp_path / "cache")),
            workers=Workers(fork_server=False, restart_backoff=0.2, restart_backoff_max=1.0, heartbeat=0.1),
            models=configured,
        )
        made = Yard(config, host, tmp_path / "engines.log")
        await made.pool.start()
        try:
            yield made
        finally:
            await made.pool.close()
            assert not [pid for pid in made.pids() if alive(pid)], "an engine was left behind"

    return make


@pytest.fixture
def gone() -> Callable[[int], bool]:
    return lambda pid: not alive(pid)
