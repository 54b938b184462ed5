"""Worker processes as the gateway holds them, and the two ways to get one: spawned, or forked by the fork server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import psutil

from openai_compat.protocol import Exited, Forked, ForkLine, Launch, Preloaded

logger = logging.getLogger(__name__)
_POLL = 0.05  # seconds between looks at a process that is nobody's child any more


class ForkServerDown(Exception):
    """No worker can be had from the fork server now."""


class Process(Protocol):
    """One running worker process."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> None:
        """Return once the process is really gone and its memory given back."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process is gone. SIGKILL reaches its whole session."""


class SpawnedProcess:
    """A child of the gateway."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> None:
        await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            _signal(self.pid, number)


class ForkedProcess:
    """A child of the fork server, which reports its end; an orphan of a dead fork server is watched by its pid."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._exited = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        await self._exited.wait()

    def send(self, number: signal.Signals) -> None:
        if not self._exited.is_set():
            _signal(self.pid, number)

    def exited(self) -> None:
        self._exited.set()

    def orphaned(self) -> None:
        if not self._exited.is_set():
            self._watch = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(_POLL)
        self._exited.set()


async def spawn(command: Sequence[str], launch: Launch, environment: Mapping[str, str]) -> SpawnedProcess:
    """Start ``command`` with the order on its standard input. Raises ``OSError``."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=None,
        env={**environment, **launch.environment},
        start_new_session=True,
    )
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(launch))
            await process.stdin.drain()
            process.stdin.close()
    return SpawnedProcess(process)


class ForkServerClient:
    """Keeps a fork server alive and gets workers from it.

    After its death it is started again with a growing pause, in which ``fork`` raises ``ForkServerDown``.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, backoff: float = 1.0, backoff_max: float = 60.0
    ) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)
        self._backoff = backoff
        self._backoff_max = backoff_max
        self._failures = 0
        self._keeper: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._started = asyncio.Event()
        self._pending: dict[str, asyncio.Future[ForkedProcess]] = {}
        self._forked: dict[str, ForkedProcess] = {}
        self.preloaded: Preloaded | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin to start it in the background; a second call does nothing."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def fork(self, launch: Launch) -> ForkedProcess:
        """A new worker; waits for the preloading when that still runs. Raises ``ForkServerDown``."""
        self.start()
        if self._process is None and self._failures:
            raise ForkServerDown
        await self._started.wait()
        process = self._process
        if process is None or process.stdin is None:
            raise ForkServerDown
        forked: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        self._pending[launch.worker_id] = forked
        process.stdin.write(msgspec.json.encode(launch) + b"\n")
        return await forked

    async def close(self) -> None:
        """End it by closing its input, and by force if it does not listen."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await process.wait()
        if process.returncode is None:
            _signal(process.pid, signal.SIGKILL)
            await process.wait()

    async def _keep(self) -> None:
        while True:
            await self._live()
            self._failures += 1
            pause = min(self._backoff * 2 ** (self._failures - 1), self._backoff_max)
            logger.warning("the fork server ended; it is started again in %.1f s, workers are spawned meanwhile", pause)
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """One life of the server, from its start to its end."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
            self._started.set()
            if self._process.stdout is not None:
                async for line in self._process.stdout:
                    self._hear(msgspec.json.decode(line, type=ForkLine))
            await self._process.wait()
        except (OSError, ValueError, msgspec.DecodeError) as error:
            logger.warning("the fork server failed: %s", type(error).__name__)
            await self._abandon()
        finally:
            self._lost()

    async def _abandon(self) -> None:
        if self._process is not None and self._process.returncode is None:
            _signal(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    def _lost(self) -> None:
        """Whoever waits for a worker must get it elsewhere; the workers themselves live on."""
        if self._process is not None and self._process.returncode is not None:
            self._process = None
        self._started.set()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ForkServerDown())
        self._pending.clear()
        for process in self._forked.values():
            process.orphaned()
        self._forked.clear()

    def _hear(self, line: ForkLine) -> None:
        match line:
            case Preloaded():
                self.preloaded = line
                self._failures = 0
                self._warn(line)
            case Forked(worker_id, pid):
                process = self._forked[worker_id] = ForkedProcess(pid)
                future = self._pending.pop(worker_id, None)
                if future is None or future.done():
                    process.send(signal.SIGKILL)
                else:
                    future.set_result(process)
            case Exited(worker_id, status):
                if status not in (0, -signal.SIGTERM):
                    logger.warning("worker %s ended with status %d", worker_id, status)
                if process_ := self._forked.pop(worker_id, None):
                    process_.exited()

    def _warn(self, line: Preloaded) -> None:
        for name, reason in line.missing.items():
            logger.warning("the fork server could not preload %s: %s", name, reason)
        if line.threads > 1:
            logger.warning("the fork server has %d threads: a fork of it may inherit a held lock", line.threads)
        logger.debug("the fork server is ready after %.1f s", line.seconds)


def _signal(pid: int, number: signal.Signals) -> None:
    """Workers lead their own session, so killing the group takes what they started with them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
    if number == signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
