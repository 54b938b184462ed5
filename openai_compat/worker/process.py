"""The body of a worker process: one model, one Unix socket, one status line.

    environment → status line → load and self-test on the model's thread → bind → serve → ``Ready`` → … SIGTERM → drain → end

Nothing heavy is imported before the environment is set. The process ends by ``os._exit``, so that neither a model's hung thread
nor a library's exit hook can keep it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import uvicorn

from openai_compat import logs
from openai_compat.allocator import allocator_settings
from openai_compat.errors import APIError, InsufficientMemory, ModelUnavailable
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import Begun, Failed, Heartbeat, Launch, Memory, Ready, Retiring, bind_private
from openai_compat.worker.memory import Gauge, measure
from openai_compat.worker.status import ORPHANED, Ledger, ProgressReport, StatusLine
from openai_compat.worker.track import Track

if TYPE_CHECKING:
    from handlers.base import BaseHandler
    from openai_compat.worker.runner import Runner

logger = logging.getLogger(__name__)

AppFactory = Callable[..., Any]
FLUSH_SECONDS = 5
KEEP_ALIVE_SECONDS = 24 * 3600  # the gateway decides which idle connections are closed


def run(launch: Launch, *, create_app: AppFactory | None = None) -> NoReturn:
    """Be the worker that ``launch`` describes, until it ends. Exit codes: 0 drained, 1 not loaded, 3 the gateway is gone.

    Args:
        launch: the gateway's order.
        create_app: makes the web app from ``runner``, ``model_id`` and ``timing``; ``openai_compat.app.create_worker`` if None.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_environment(launch)
    logs.configure(launch.log_level, "json" if launch.log_format == "json" else "text")
    try:
        line = StatusLine(launch.status_socket)
    except OSError:
        os._exit(ORPHANED)
    line.greet(launch.worker_id, launch.token)
    try:
        code = _live(launch, line, create_app)
    except BaseException as error:
        line.send(failure(error))
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def set_environment(launch: Launch) -> None:
    """A worker never reaches out for files, and CUDA memory must not fragment; ``launch.environment`` has the last word."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    os.environ.update(allocator_settings(launch.environment, os.environ) | launch.environment)


def failure(error: BaseException) -> Failed:
    """What the gateway, and through it a client, may know of a load that failed; the log gets the rest."""
    if not isinstance(error, APIError):
        from openai_compat.worker.foreign import foreign

        if isinstance(foreign(error), InsufficientMemory):
            error = InsufficientMemory("There is not enough memory to load the model.")
        else:
            error = ModelUnavailable("The model could not be loaded.")
    return Failed(error.message, kind=type(error).__name__)


def _live(launch: Launch, line: StatusLine, create_app: AppFactory | None) -> int:
    from openai_compat.worker.runner import Runner
    from openai_compat.worker.selftest import load_and_test

    began = time.monotonic()
    handler = _create_handler(launch)
    ledger = Ledger(line.send)
    runner = Runner(
        handler,
        on_done=ledger.settle,
        on_begun=lambda request_id: line.send(Begun(request_id)),
        on_usage=ledger.spend,
        on_exhausted=lambda: line.send(Retiring()),
        max_wait=launch.max_wait,
    )
    ledger.active = lambda: runner.active
    runner.call(partial(load_and_test, handler, ProgressReport(line.send))).result()
    app = (create_app or _app_factory())(runner, model_id=handler.spec.id, timing=_timing(launch))
    server = Server(Track(app, ledger, runner.admit), announce=lambda: line.send(_ready(handler, began)))
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as loop:
        loop.run(_serve(server, launch, runner, partial(_beat, line, ledger, runner, launch.heartbeat)))
    return 0


def _app_factory() -> AppFactory:
    from openai_compat.app import create_worker

    return create_worker


def _create_handler(launch: Launch) -> BaseHandler:
    from handlers import registry
    from handlers.types import ModelSpec

    return registry.create(msgspec.convert(launch.spec, ModelSpec))


def _timing(launch: Launch) -> StreamTiming:
    return StreamTiming(first_byte_timeout=launch.first_byte_timeout, ping_interval=launch.ping_interval)


def _ready(handler: BaseHandler, began: float) -> Ready:
    capabilities = tuple(sorted(type(handler).get_model_capabilities(handler.spec)))
    return Ready(memory=measure(), load_seconds=time.monotonic() - began, capabilities=capabilities)


class Server(uvicorn.Server):
    """uvicorn that tells when it listens and leaves signals to the worker."""

    def __init__(self, app: Any, announce: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=FLUSH_SECONDS,
            )
        )
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(server: Server, launch: Launch, runner: Runner, beat: Callable[[], Any]) -> None:
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    serving = asyncio.ensure_future(server.serve([bind_private(launch.socket)]))
    beating = asyncio.ensure_future(beat())
    stopping = asyncio.ensure_future(terminated.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await runner.close(launch.shutdown_grace)
    server.should_exit = True
    await serving
    beating.cancel()


async def _beat(line: StatusLine, ledger: Ledger, runner: Runner, seconds: float) -> None:
    gauge = Gauge()
    while True:
        await asyncio.sleep(seconds)
        memory: Memory = await asyncio.to_thread(gauge.read)
        line.send(Heartbeat(memory=memory, active=ledger.open, stalled=runner.stalled))
