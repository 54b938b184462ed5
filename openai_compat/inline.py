"""Models inside the gateway's own process, for tests and debugging: a call in place of the socket, everything else the same.

Memory comes back only as far as Python gives it back, and a crash takes the server along: not for production.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from handlers.types import ModelSpec
from openai_compat.config import Config
from openai_compat.errors import APIError, ModelUnavailable
from openai_compat.gateway.replica import InlineReplica
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import Memory, Ready, Retiring, Status
from openai_compat.worker.status import Ledger, ProgressReport
from openai_compat.worker.track import Track

if TYPE_CHECKING:
    from litestar import Litestar

    from handlers.base import BaseHandler
    from openai_compat.worker.runner import Runner


class InlineWorker:
    """One model on a thread of this process."""

    engine = None

    def __init__(
        self, spec: ModelSpec, timing: StreamTiming, listener: Callable[[Status], None], forget: Callable[[InlineWorker], None]
    ) -> None:
        self._forget = forget
        self._ending: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self._listener = listener
        self._ledger = Ledger(listener)
        self._runner, self._handler = _runner(spec, self._ledger)
        self._runner.on_exhausted = lambda: listener(Retiring())
        self.replica = InlineReplica(Track(_app(self._runner, timing), self._ledger, self._runner.admit))

    async def ready(self) -> Ready:
        from openai_compat.worker.selftest import load_and_test

        loop = asyncio.get_running_loop()
        began = time.monotonic()
        report = ProgressReport(lambda message: _post(loop, self._listener, message))
        try:
            await asyncio.wrap_future(self._runner.call(partial(load_and_test, self._handler, report)))
        except APIError:
            raise
        except Exception as error:
            raise ModelUnavailable("The model could not be loaded.") from error
        capabilities = tuple(sorted(type(self._handler).get_model_capabilities(self._handler.spec)))
        return Ready(memory=Memory(host=0), load_seconds=time.monotonic() - began, capabilities=capabilities)

    async def stop(self, grace: float) -> None:
        await self._runner.close(grace)
        self._forget(self)
        self.gone.set()

    def kill(self) -> None:
        """A thread cannot be ended from outside; it is told to, and not waited for."""
        if not self.gone.is_set():
            self._ending = asyncio.get_running_loop().create_task(self.stop(0))


class InlineLauncher:
    """Stands where the supervisor of worker processes stands."""

    def __init__(self, timing: StreamTiming) -> None:
        self._timing = timing
        self._workers: set[InlineWorker] = set()

    async def start(self) -> None:
        """Nothing need run before the first model."""

    async def launch(
        self, model_id: str, spec: ModelSpec, environment: Mapping[str, str], listener: Callable[[Status], None]
    ) -> InlineWorker:
        """Raises ``ModelUnavailable`` for a model that needs an environment of its own."""
        if environment:
            raise ModelUnavailable(f"The model '{model_id}' needs its own environment, and so its own process.")
        worker = InlineWorker(spec, self._timing, listener, self._workers.discard)
        self._workers.add(worker)
        return worker

    def renew(self, config: Config) -> None:
        server = config.server
        self._timing = StreamTiming(first_byte_timeout=server.first_byte_timeout, ping_interval=server.ping_interval)

    async def close(self) -> None:
        await asyncio.gather(*(worker.stop(0) for worker in tuple(self._workers)))


def _runner(spec: ModelSpec, ledger: Ledger) -> tuple[Runner, BaseHandler]:
    from handlers import registry
    from openai_compat.worker.runner import Runner

    handler = registry.create(spec)
    runner = Runner(handler, on_done=ledger.settle, on_usage=ledger.spend)
    ledger.active = lambda: runner.active
    return runner, handler


def _app(runner: Runner, timing: StreamTiming) -> Litestar:
    from openai_compat.app import create_worker

    return create_worker(runner, model_id=runner.handler.spec.id, timing=timing)


def _post(loop: asyncio.AbstractEventLoop, listener: Callable[[Status], None], message: Status) -> None:
    loop.call_soon_threadsafe(listener, message)
