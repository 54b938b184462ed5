"""Starts worker processes and sees to it that none outlives its use."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import msgspec

from handlers.types import ModelSpec
from openai_compat.config import Config, Model
from openai_compat.errors import ModelUnavailable, ShuttingDown
from openai_compat.gateway.environment import worker_environment
from openai_compat.gateway.processes import ForkServerClient, ForkServerDown, Process, spawn
from openai_compat.gateway.rundir import RunDirectory
from openai_compat.gateway.status import StatusServer
from openai_compat.gateway.worker import WorkerProcess
from openai_compat.protocol import Launch, Status

logger = logging.getLogger(__name__)
SPAWN = (sys.executable, "-P", "-m", "openai_compat.worker")
FORK = (sys.executable, "-P", "-m", "openai_compat.worker.forkserver")
_KILL_MARGIN = 15.0  # seconds a worker gets beyond its own grace before it is killed


class Supervisor:
    """The launcher of worker processes.

    ``spawn_command`` is a program that reads a ``Launch`` on its standard input and becomes that worker; ``fork_command`` is a
    fork server.
    """

    def __init__(self, config: Config, *, spawn_command: Sequence[str] = SPAWN, fork_command: Sequence[str] = FORK) -> None:
        self._config = config
        self._spawn_command = tuple(spawn_command)
        self._fork_command = tuple(fork_command)
        self._environment = worker_environment(os.environ)
        self._directory: RunDirectory | None = None
        self._status: StatusServer | None = None
        self._fork_server: ForkServerClient | None = None
        self._expected: dict[str, WorkerProcess] = {}
        self._workers: dict[WorkerProcess, asyncio.Task[None]] = {}
        self._numbers = count(1)

    async def start(self) -> None:
        """Open the run directory and, where there are local models, begin to preload in the background."""
        self._directory = RunDirectory()
        self._status = StatusServer(self._directory.socket("s"), self._expect)
        await self._status.start()
        self._begin_to_fork()

    def renew(self, config: Config) -> None:
        """The first model of ours may have come with it."""
        self._config = config
        if self._directory is not None and self._fork_server is None:
            self._begin_to_fork()

    def _begin_to_fork(self) -> None:
        workers = self._config.workers
        own = any(not model.command for model in self._config.models.values())
        if workers.fork_server and _forks_safely() and own:
            self._fork_server = ForkServerClient(
                self._fork_command,
                self._environment,
                backoff=workers.restart_backoff,
                backoff_max=workers.restart_backoff_max,
            )
            self._fork_server.start()

    async def launch(
        self, model_id: str, spec: ModelSpec, environment: Mapping[str, str], listener: Callable[[Status], None]
    ) -> WorkerProcess:
        """A worker that is not ready yet. Raises ``ModelUnavailable`` when no process can be started."""
        if self._directory is None:
            raise ShuttingDown("The server is not running.", retry_after=1)
        worker_id = f"w{next(self._numbers)}"
        worker = WorkerProcess(worker_id, model_id, self._directory.socket(worker_id), self._config.workers.heartbeat, listener)
        self._expected[worker_id] = worker
        try:
            worker.attach(await self._process(self._order(worker, spec, environment)))
        except OSError as error:
            raise ModelUnavailable(f"No process could be started for the model '{model_id}'.") from error
        finally:
            if worker.pid is None:
                self._expected.pop(worker_id, None)
                await worker.vanish()
        self._workers[worker] = asyncio.create_task(self._forget_when_gone(worker))
        return worker

    async def close(self) -> None:
        """End every worker, the fork server, and the folder with their sockets."""
        await asyncio.gather(
            *(worker.stop(self._config.server.shutdown_grace + _KILL_MARGIN) for worker in tuple(self._workers))
        )
        if self._fork_server is not None:
            await self._fork_server.close()
        if self._status is not None:
            await self._status.close()
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _order(self, worker: WorkerProcess, spec: ModelSpec, environment: Mapping[str, str]) -> Launch:
        server = self._config.server
        return Launch(
            worker_id=worker.worker_id,
            token=worker.token,
            spec=msgspec.to_builtins(spec),
            socket=worker.socket,
            status_socket=self._directory.socket("s") if self._directory else "",
            environment=dict(environment),
            log_format=server.log_format,
            log_level=server.log_level,
            shutdown_grace=server.shutdown_grace,
            first_byte_timeout=server.first_byte_timeout,
            ping_interval=server.ping_interval,
            heartbeat=self._config.workers.heartbeat,
            max_wait=self._config.models.get(worker.model_id, Model()).max_wait,
        )

    async def _process(self, order: Launch) -> Process:
        """Forked where that is possible; what a model sets in the environment must be there before the imports."""
        if self._fork_server is not None and not order.environment:
            try:
                return await self._fork_server.fork(order)
            except ForkServerDown:
                logger.info("worker %s is spawned, since the fork server is down", order.worker_id)
        return await spawn(self._spawn_command, order, self._environment)

    def _expect(self, worker_id: str, token: str) -> WorkerProcess | None:
        """The worker of that id, once, and only for who knows its token: a stranger's try must not use it up."""
        worker = self._expected.get(worker_id)
        if worker is None or not hmac.compare_digest(worker.token.encode(), token.encode()):
            return None
        return self._expected.pop(worker_id)

    async def _forget_when_gone(self, worker: WorkerProcess) -> None:
        await worker.gone.wait()
        self._expected.pop(worker.worker_id, None)
        del self._workers[worker]


def _forks_safely() -> bool:
    """Not on macOS, whose own libraries (Metal, Accelerate) break in a process that was forked and did not exec."""
    return sys.platform != "darwin"
