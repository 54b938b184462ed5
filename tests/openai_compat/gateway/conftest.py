"""Real worker processes without a model, a supervisor and a pool around them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from handlers.types import Analysis, ModelSpec
from openai_compat.config import Config, Model, Server, Workers
from openai_compat.errors import ModelNotFound
from openai_compat.gateway.answer_cache import AnswerCache
from openai_compat.gateway.checks import Checks
from openai_compat.gateway.local import LocalSender
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.order import Choice, Destination, LocalTarget
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.relay import Relay
from openai_compat.gateway.replica import Call
from openai_compat.gateway.routing.dispatcher import Router
from openai_compat.gateway.slot import Lease
from openai_compat.gateway.supervisor import Supervisor
from openai_compat.grants import ANYBODY, Grant
from openai_compat.protocol import RelayFacts

FAKES = Path(__file__).parent / "fakes"
WORKER = (sys.executable, "-P", str(FAKES / "worker.py"))
FORK_SERVER = (sys.executable, "-P", str(FAKES / "forkserver.py"))
MIB = 1024**2
PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


class Target:
    def __init__(self, model_id: str, mode: str | None, public_name: str) -> None:
        self.model_id = model_id
        self.mode = mode
        self.public_name = public_name


class FakeCatalog:
    """Facts without files: every model takes ``size`` bytes."""

    def __init__(self, config: Config, size: int = 100 * MIB) -> None:
        self.config = config
        self.size = size
        self.failure: Exception | None = None
        self.capabilities: dict[str, tuple[Any, ...]] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.config.models)

    def spec(self, model_id: str) -> ModelSpec:
        if self.failure:
            raise self.failure
        return ModelSpec(id=model_id, path="", kind="fake", options=self.config.models[model_id].options)

    def analysis(self, model_id: str) -> Analysis:
        return Analysis(
            architecture="fake",
            parameters=1,
            dtype="float32",
            bytes_per_dtype={},
            load_bytes=self.size,
            capabilities=self.capabilities.get(model_id, ("generate_text",)),
            modes=("auto", "code"),
        )

    def resolve(self, name: str) -> Target:
        base, _, mode = name.partition(":")
        if base not in self.config.models:
            raise ModelNotFound(name)
        return Target(base, mode or None, name)


class LocalNames:
    """A catalog as the relay's finder: every name is one local model's."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog

    def find(self, name: str, grant: Grant = ANYBODY) -> Destination:
        found = self._catalog.resolve(name)
        target = LocalTarget(model_id=found.model_id, mode=found.mode)
        return Destination(public_name=name, choices=(Choice(target=target),))


def relay_to(config: Config, catalog: Any, pool: Any) -> Relay:
    """A relay in front of the pool's models."""
    checks = Checks(catalog)
    local = LocalSender(checks, pool)
    router = Router(config, lambda target: local)
    return Relay(config, LocalNames(catalog), checks, router, Ledger(config.metering), AnswerCache(config.cache))


@pytest.fixture(name="relay_to")
def _relay_to() -> Callable[..., Relay]:
    return relay_to


class Arena:
    """A pool over processes that test code can watch."""

    def __init__(self, config: Config, limits: dict[str, int], log: Path, forks: bool) -> None:
        self.config = config
        self.log = log
        self.catalog = FakeCatalog(config)
        self.supervisor = Supervisor(config, spawn_command=WORKER, fork_command=FORK_SERVER)
        self.pool = Pool(config, self.catalog, self.supervisor, limits=limits)

    def events(self) -> list[list[str]]:
        """``start`` and ``end`` of workers, as they saw it: what, model, pid, device, when."""
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def starts(self, model_id: str) -> int:
        return sum(event[:2] == ["start", model_id] for event in self.events())

    def state(self, model_id: str) -> str:
        return next(state.state for state in self.pool.states() if state.model_id == model_id)

    def stream(self, lease: Lease, **script: Any) -> AsyncIterator[bytes]:
        return stream(lease, **script)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_state(self, model_id: str, state: str) -> None:
        await self.until(lambda: self.state(model_id) == state)

    async def ask(self, model_id: str, **script: Any) -> dict[str, Any]:
        """One whole request, from lease to answer."""
        with await self.pool.acquire(model_id, request_id=f"ask-{id(script)}") as lease:
            return json.loads(b"".join([chunk async for chunk in stream(lease, **script)]))

    async def ask_in_turn(self, *model_ids: str) -> None:
        """One request after the other, each over before the next begins, as the worker sees it too."""
        for model_id in model_ids:
            await self.ask(model_id)
            await self.until(lambda: not any(state.active for state in self.pool.states()))


async def stream(lease: Lease, **script: Any) -> AsyncIterator[bytes]:
    facts = RelayFacts(request_id=lease.request_id, model="m", public_model="m")
    headers = [(name.encode(), value.encode()) for name, value in facts.to_headers().items()]
    call = Call("POST", "/v1/x", [*headers, (b"content-type", b"application/json")], json.dumps(script).encode())
    async with lease.replica.forward(call) as answer:
        async for chunk in answer.chunks():
            yield chunk


@pytest.fixture
def arena(tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Arena]]:
    @contextlib.asynccontextmanager
    async def make(
        models: dict[str, dict[str, Any]], *, host: int = 1000 * MIB, forks: bool = False, limits: dict[str, int] | None = None
    ) -> AsyncIterator[Arena]:
        log = tmp_path / "workers.log"
        configured = {}
        for name, settings in models.items():
            options = {"log": str(log), **settings.pop("options", {})}
            configured[name] = Model(**{"source": "fake", "memory": 100 * MIB, **settings}, options=options)
        config = Config(
            server=Server(shutdown_grace=2.0),
            workers=Workers(fork_server=forks, restart_backoff=0.3, restart_backoff_max=2.0, heartbeat=0.1),
            models=configured,
        )
        made = Arena(config, limits or {"host": host}, log, forks)
        await made.pool.start()
        try:
            yield made
        finally:
            await made.pool.close()
            pids = {int(event[2]) for event in made.events()}
            assert not [pid for pid in pids if alive(pid)], "a worker was left behind"

    return make


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def gone() -> Callable[[int], bool]:
    return lambda pid: not alive(pid)
