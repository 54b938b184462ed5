"""One worker process as the gateway sees it: its life, its status messages, and the replica that it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
from collections.abc import Callable

from openai_compat import errors
from openai_compat.gateway.processes import Process
from openai_compat.gateway.replica import WorkerReplica
from openai_compat.protocol import Failed, Ready, Status

logger = logging.getLogger(__name__)
_DYING = 1.0  # seconds that a worker has to end after its status connection did
_SILENCE = 5  # heartbeats missed before it is worth a line in the log
_HUNG = 30  # heartbeats missed before it is taken for hung, and ended
_FAILURES: dict[str, type[errors.Unavailable]] = {kind.__name__: kind for kind in errors.Unavailable.__subclasses__()}


class WorkerProcess:
    """A process and its two connections: requests over ``socket``, status messages to ``listener``.

    ``heartbeat`` is how often it should say something, in seconds.
    """

    engine = None

    def __init__(
        self, worker_id: str, model_id: str, socket: str, heartbeat: float, listener: Callable[[Status], None]
    ) -> None:
        self.worker_id = worker_id
        self.model_id = model_id
        self.socket = socket
        self.token = secrets.token_urlsafe(32)
        self.gone = asyncio.Event()
        self.replica = WorkerReplica(socket)
        self._listener = listener
        self._process: Process | None = None
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._watch: asyncio.Task[None] | None = None
        self._told = False
        self._heartbeat = heartbeat
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def attach(self, process: Process) -> None:
        """The process runs: watch for its end."""
        self._process = process
        self._watch = asyncio.get_running_loop().create_task(self._wait(process))

    async def ready(self) -> Ready:
        return await asyncio.shield(self._ready)

    def heard(self, message: Status) -> None:
        if isinstance(message, Ready) and not self._ready.done():
            self._ready.set_result(message)
        elif isinstance(message, Failed):
            self._fail(_FAILURES.get(message.kind, errors.ModelUnavailable)(message.message))
        self._expect_more()
        self._listener(message)

    def silent(self) -> None:
        """Its status connection ended, so it is dead for us: see to it that it is."""
        self._lost()
        asyncio.get_running_loop().call_later(_DYING, self.kill)

    async def stop(self, grace: float) -> None:
        if self._process is not None and not self.gone.is_set():
            self._process.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.gone.wait()
            self.kill()
            await self.gone.wait()

    def kill(self) -> None:
        if self._process is not None and not self.gone.is_set():
            self._process.send(signal.SIGKILL)

    async def vanish(self) -> None:
        """There is no process, or no longer."""
        self._lost()
        with contextlib.suppress(OSError):
            os.unlink(self.socket)
        await self.replica.close()
        self.gone.set()

    async def _wait(self, process: Process) -> None:
        await process.wait()
        await self.vanish()

    def _lost(self) -> None:
        """Tell at once, since the process itself may take a while to be gone."""
        self._cancel_alarm()
        message = f"The process of the model '{self.model_id}' ended while it was loading."
        self._fail(errors.WorkerDied(message))
        if not self._told:
            self._told = True
            self._listener(Failed(message, errors.WorkerDied.__name__))

    def _fail(self, error: errors.Unavailable) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # marks it as seen: nobody need wait for it

    def _expect_more(self) -> None:
        self._cancel_alarm()
        if self._ready.done():
            self._alarm = asyncio.get_running_loop().call_later(self._heartbeat * _SILENCE, self._missing)

    def _missing(self) -> None:
        logger.warning("the worker of %s has said nothing for %.0f s", self.model_id, self._heartbeat * _SILENCE)
        self._alarm = asyncio.get_running_loop().call_later(self._heartbeat * (_HUNG - _SILENCE), self._give_up)

    def _give_up(self) -> None:
        logger.error("the worker of %s is ended: it has said nothing for %.0f s", self.model_id, self._heartbeat * _HUNG)
        self._lost()
        self.kill()

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
