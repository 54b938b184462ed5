"""Starts engines, and leaves all other models to the launcher behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Mapping

from handlers.types import ModelSpec
from openai_compat.config import Config, Model, Upstream
from openai_compat.errors import ModelUnavailable, ShuttingDown
from openai_compat.gateway.engines.ports import Ports
from openai_compat.gateway.engines.process import EngineProcess
from openai_compat.gateway.engines.recipe import as_upstream, write_recipe
from openai_compat.gateway.engines.worker import EngineWorker
from openai_compat.gateway.launcher import Launcher, Worker
from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.protocol import Status

logger = logging.getLogger(__name__)


class EngineLauncher:
    """A launcher of models that have a command; ``others`` launches the rest."""

    def __init__(self, config: Config, others: Launcher) -> None:
        self._config = config
        self._others = others
        self._ports = Ports()
        self._engines: dict[EngineWorker, asyncio.Task[None]] = {}
        self._closing = False

    async def start(self) -> None:
        await self._others.start()

    async def launch(
        self, model_id: str, spec: ModelSpec, environment: Mapping[str, str], listener: Callable[[Status], None]
    ) -> Worker:
        """A worker that is not ready yet. Raises ``Unavailable``."""
        model = self._config.models[model_id]
        if not model.command:
            return await self._others.launch(model_id, spec, environment, listener)
        if self._closing:
            raise ShuttingDown("The server is shutting down.", retry_after=1)
        try:
            return await self._start(model, spec, listener)
        except OSError as error:
            raise ModelUnavailable(f"No process could be started for the model '{model_id}'.") from error

    def renew(self, config: Config) -> None:
        self._config = config
        self._others.renew(config)

    async def close(self) -> None:
        self._closing = True
        await asyncio.gather(
            self._others.close(), *(engine.stop(self._config.server.shutdown_grace) for engine in self._engines)
        )

    async def _start(self, model: Model, spec: ModelSpec, listener: Callable[[Status], None]) -> EngineWorker:
        port = self._ports.take()
        recipe = write_recipe(spec, model, os.environ, port, secrets.token_urlsafe(32))
        engine = as_upstream(self._config, model, recipe)
        try:
            sender = await asyncio.to_thread(self._sender, spec.id, engine)
            process = await EngineProcess.start(recipe)
        except BaseException:
            self._ports.give_back(port)
            raise
        logger.debug("the engine of %s is process %d, on port %d", spec.id, process.pid, port)
        worker = EngineWorker(process, recipe, model.engine, engine, sender, self._config.workers.heartbeat, listener)
        self._engines[worker] = asyncio.create_task(self._forget_when_gone(worker, port))
        return worker

    def _sender(self, model_id: str, engine: Upstream) -> UpstreamSender:
        """It reads certificates, which takes a while."""
        server = self._config.server
        return UpstreamSender({model_id: engine}, hold=server.first_byte_timeout, ping_interval=server.ping_interval)

    async def _forget_when_gone(self, worker: EngineWorker, port: int) -> None:
        await worker.gone.wait()
        self._ports.give_back(port)
        del self._engines[worker]
