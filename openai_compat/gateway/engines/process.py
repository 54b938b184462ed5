"""One engine's processes as the gateway holds them: the guard, what they print, and the memory that they take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import deque
from pathlib import Path

import psutil

from openai_compat.gateway.engines import guard
from openai_compat.gateway.engines.recipe import Recipe
from openai_compat.protocol import Memory

logger = logging.getLogger(__name__)
_GUARD = (sys.executable, "-I", "-S", str(Path(guard.__file__)))
_KEPT_LINES = 20
_LONGEST_LINE = 500
_READ = 1 << 16
_COST_SHARE = 50
_RESIDUE = 1.0  # seconds for reading what is left of its output


class EngineProcess:
    """A started engine. What it prints goes to our log, its key left out, and its last words are kept."""

    def __init__(self, process: asyncio.subprocess.Process, recipe: Recipe) -> None:
        self.pid = process.pid
        self._process = process
        self._recipe = recipe
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def start(cls, recipe: Recipe) -> EngineProcess:
        """Raises ``OSError`` where no process can be started; whether its program can is told by the end of it."""
        process = await asyncio.create_subprocess_exec(
            *_GUARD,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={},
            start_new_session=True,
        )
        started = cls(process, recipe)
        started._say(json.dumps({"command": recipe.command, "environment": recipe.environment}))
        return started

    @property
    def last_lines(self) -> tuple[str, ...]:
        return tuple(self._last)

    async def wait(self) -> int:
        """Its exit status, once nothing of it is left; above 128 for a signal."""
        status = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reading, _RESIDUE)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        self._say("stop")

    def kill(self) -> None:
        """Its processes, all of them: the guard sees to it."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _say(self, line: str) -> None:
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode() + b"\n")

    async def _read(self) -> None:
        """Without an end of line within reason one is made up, so that nobody's output fills our memory."""
        if self._process.stdout is None:
            return
        rest = b""
        while chunk := await self._process.stdout.read(_READ):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _READ:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._note(line)
        self._note(rest)

    def _note(self, line: bytes) -> None:
        text = line[: 4 * _LONGEST_LINE].decode(errors="replace").strip().replace(self._recipe.key, "[key]")[:_LONGEST_LINE]
        if text:
            self._last.append(text)
            logger.debug("%s: %s", self._recipe.model_id, text)


class MemoryGauge:
    """What a process and its descendants hold, measured only as often as it costs at most a fiftieth of the time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._memory = Memory(host=0)
        self._due = 0.0

    def read(self) -> Memory:
        """Host memory as PSS; what is on devices is not known."""
        began = time.monotonic()
        if began >= self._due:
            self._memory = Memory(host=_tree_memory(self._pid))
            ended = time.monotonic()
            self._due = ended + _COST_SHARE * (ended - began)
        return self._memory


def _tree_memory(pid: int) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return sum(_memory_of(process) for process in (root, *root.children(recursive=True)))
    return 0


def _memory_of(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
        return int(getattr(info, "pss", 0) or info.uss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
