"""Processes that can be stopped and hold nothing of value: what strangers' media are decoded in, seen from the worker.

A process is started on first use, kept for the next order, and replaced when it dies or has served for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import weakref

import msgspec
from msgspec import Struct

from openai_compat.errors import Unavailable
from openai_compat.media import child, pipe

SIDE_BY_SIDE = 2
USES = 200
TOO_DEAR = "too dear"
_START_SECONDS = 60.0
_END_SECONDS = 5.0
_ATTEMPTS = 2
# What Python needs to find its modules; no secret of the server's.
_ENVIRONMENT = frozenset({"PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL"})


class _Killed(Exception):
    """A process was ended by somebody else."""


class Cost(Struct, frozen=True, kw_only=True):
    """What one order may cost. ``memory`` is in bytes, the rest in seconds."""

    memory: int
    cpu: int
    wall: float


class Children:
    """The processes of one ``kind`` of ``child.KINDS``. Belongs to one event loop; its own end ends them too."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._free = asyncio.Semaphore(SIDE_BY_SIDE)
        self.idle: list[Child] = []

    async def ask(self, task: Struct, data: bytes, cost: Cost) -> tuple[str, list[bytes]]:
        """A word of the kind's (``""`` for success, ``TOO_DEAR`` where the cost was reached) and the pieces it made.

        A process that was killed while it was idle may look alive for a moment: another one is asked.

        Raises:
            Unavailable: no process could be started, or somebody else stopped it: the system, where memory is short.
        """
        order = pipe.Order(len(data), cost.memory, cost.cpu, msgspec.Raw(msgspec.msgpack.encode(task)))
        async with self._free:
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(_Killed):
                    return await self._once(order, data, cost.wall)
        raise Unavailable(f"The process that decoded the {self._kind} was stopped.", retry_after=5)

    async def close(self) -> None:
        while self.idle:
            self.idle.pop().stop()

    async def _once(self, order: pipe.Order, data: bytes, wall: float) -> tuple[str, list[bytes]]:
        found = self._waiting() or await Child.started(self._kind)
        done = False
        try:
            async with asyncio.timeout(wall):
                answer = await asyncio.to_thread(found.decode, order, data)
            done = True
        except TimeoutError:
            return TOO_DEAR, []
        except (EOFError, BrokenPipeError) as error:  # it was stopped by its limits, or fell over the bytes
            if await asyncio.to_thread(found.was_killed):
                raise _Killed from error
            return TOO_DEAR, []
        finally:
            if done and found.uses < USES:
                self.idle.append(found)
            else:
                found.stop()
        return answer

    def _waiting(self) -> Child | None:
        """One that is left from before, and still there."""
        while self.idle:
            found = self.idle.pop()
            if found.lives:
                return found
            found.stop()
        return None


class Child:
    """One process; one thread at a time may ask it."""

    def __init__(self, kind: str) -> None:
        command = [sys.executable, "-P", "-m", child.MODULE, kind]
        through, nowhere = subprocess.PIPE, subprocess.DEVNULL
        environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self._process = subprocess.Popen(command, stdin=through, stdout=through, stderr=nowhere, env=environment)  # noqa: S603
        self.stop = weakref.finalize(self, _stop, self._process)
        self.uses = 0

    @classmethod
    async def started(cls, kind: str) -> Child:
        """Raises ``Unavailable`` where the process does not come up."""
        try:
            found = cls(kind)
        except OSError as error:
            raise _not_started(kind) from error
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.to_thread(found.hear)
        except (TimeoutError, EOFError) as error:
            found.stop()
            raise _not_started(kind) from error
        except asyncio.CancelledError:
            found.stop()
            raise
        return found

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def was_killed(self) -> bool:
        """Whether it ended by a signal that none of its limits sends. For one that has closed its pipes."""
        try:
            return self._process.wait(_END_SECONDS) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def hear(self) -> bytes:
        """The next message. Raises ``EOFError``."""
        if self._process.stdout is None:
            raise EOFError
        return pipe.read(self._process.stdout)

    def decode(self, order: pipe.Order, data: bytes) -> tuple[str, list[bytes]]:
        """The word and the pieces. Raises ``EOFError`` and ``BrokenPipeError`` when the process ends."""
        self.uses += 1
        if self._process.stdin is None:
            raise EOFError
        pipe.write(self._process.stdin, msgspec.msgpack.encode(order))
        self._process.stdin.write(data)
        self._process.stdin.flush()
        pieces: list[bytes] = []
        while piece := self.hear():
            pieces.append(piece)
        return self.hear().decode(), pieces


def _not_started(kind: str) -> Unavailable:
    return Unavailable(f"No process to decode {kind} could be started.", retry_after=5)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for end in (process.stdin, process.stdout):
        if end is not None:
            with contextlib.suppress(BrokenPipeError):  # what was still to be written to it
                end.close()
