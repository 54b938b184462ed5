"""An engine as the pool sees it: a worker that never says anything, and is therefore asked and measured from outside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from msgspec.structs import replace

from openai_compat import errors
from openai_compat.config import Engine, Upstream
from openai_compat.gateway.engines import guard
from openai_compat.gateway.engines.health import Health
from openai_compat.gateway.engines.process import EngineProcess, MemoryGauge
from openai_compat.gateway.engines.recipe import Recipe
from openai_compat.gateway.engines.replica import NoReplica
from openai_compat.gateway.order import Order, UpstreamTarget
from openai_compat.gateway.replica import Answer
from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.protocol import Heartbeat, Progress, Ready, Status

logger = logging.getLogger(__name__)


class EngineWorker:
    """``heartbeat`` is how often its memory is looked at, in seconds; ``engine`` is how it is spoken to, by ``sender``."""

    def __init__(
        self,
        process: EngineProcess,
        recipe: Recipe,
        settings: Engine,
        engine: Upstream,
        sender: UpstreamSender,
        heartbeat: float,
        listener: Callable[[Status], None],
    ) -> None:
        self.engine = engine
        self.replica = NoReplica()
        self.gone = asyncio.Event()
        self._model_id = recipe.model_id
        self._process = process
        self._sender = sender
        self._grace = settings.stop_grace
        self._heartbeat = heartbeat
        self._listener = listener
        url = engine.base_url.removesuffix(settings.base_path) + settings.health
        self._health = Health(recipe.model_id, url, engine, lambda stage: listener(Progress(stage)))
        self._gauge = MemoryGauge(process.pid)
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Ready] = loop.create_future()
        self._living = loop.create_task(self._live(settings))
        self._watching = loop.create_task(self._watch())

    def exchange(self, order: Order) -> AbstractAsyncContextManager[Answer]:
        """As a ``Sender`` has it. Only for who holds a lease."""
        (model,) = self.engine.models.values()
        target = UpstreamTarget(upstream=self._model_id, model=model, remote_name=model.name, label=self._model_id)
        return self._sender.send(order, target)

    async def ready(self) -> Ready:
        return await asyncio.shield(self._ready)

    async def stop(self, grace: float) -> None:
        """``grace`` counts where the engine's own is longer."""
        if not self.gone.is_set():
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(grace, self._grace)):
                    await self.gone.wait()
            self.kill()
            await self.gone.wait()

    def kill(self) -> None:
        self._process.kill()

    async def _live(self, settings: Engine) -> None:
        """Until it is cancelled: wait until it serves, then look at its memory from time to time."""
        began = time.monotonic()
        try:
            await self._health.wait()
        except errors.ModelUnavailable as error:
            self._fail(error)
            return
        if not settings.name:
            self._learn(await self._health.names())
        memory = await asyncio.to_thread(self._gauge.read)
        if not self._ready.done():
            seconds = time.monotonic() - began
            self._ready.set_result(Ready(memory=memory, load_seconds=seconds, capabilities=settings.capabilities))
        while True:
            await asyncio.sleep(self._heartbeat)
            self._listener(Heartbeat(memory=await asyncio.to_thread(self._gauge.read)))

    def _learn(self, names: tuple[str, ...]) -> None:
        """Its own name for its one model, which it may insist on, and which may be a path that is nobody's business."""
        if len(names) == 1:
            models = {key: replace(model, name=names[0]) for key, model in self.engine.models.items()}
            self.engine = replace(self.engine, models=models)

    async def _watch(self) -> None:
        status = await self._process.wait()
        self._living.cancel()
        await asyncio.wait({self._living})
        self._tell(status)
        await self._sender.close()
        self.gone.set()

    def _tell(self, status: int) -> None:
        """What it printed goes to the log only."""
        if self._ready.done():
            return
        logger.warning("the engine of %s ended with status %d", self._model_id, status)
        for line in self._process.last_lines:
            logger.warning("%s said: %s", self._model_id, line)
        if status == guard.NOT_STARTED:
            self._fail(errors.ModelUnavailable(f"The program of the model '{self._model_id}' could not be started."))
        else:
            self._fail(errors.WorkerDied(f"The program of the model '{self._model_id}' ended before it served."))

    def _fail(self, error: errors.Unavailable) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # marks it as seen: nobody need wait for it
