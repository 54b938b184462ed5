"""What a server takes, seen from outside: processor time, memory, descriptors, threads, and what its metrics say of it."""

from __future__ import annotations

import re
import time

import aiohttp
import psutil
from msgspec import Struct

_METRIC = re.compile(r"^(?P<name>\w+)(?:\{[^}]*\})? (?P<value>\S+)$", re.MULTILINE)
MEGABYTE = 1e6


class Look(Struct, frozen=True, kw_only=True):
    """One look at the process that answers. Memory in MB: resident, and its own share of it (PSS)."""

    resident: float
    own: float
    descriptors: int
    threads: int
    tasks: int
    in_flight: int
    """Requests being answered, this look's own not counted."""


def processor_seconds(pid: int) -> float:
    """Of the tree under ``pid``. Finer than the hundredths of a second in which Linux tells other processes' times."""
    root = psutil.Process(pid)
    return sum(map(_seconds, [root, *root.children(recursive=True)]))


def _seconds(process: psutil.Process) -> float:
    try:
        return time.clock_gettime((~process.pid << 3) | 2)  # clock_getcpuclockid(3), as the kernel spells it
    except OSError:
        return float(sum(process.cpu_times()[:2]))


def resident(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / MEGABYTE)


async def look(session: aiohttp.ClientSession, pid: int, origin: str, headers: dict[str, str]) -> Look:
    """Asks ``origin`` for its metrics; a server that is slow to answer is one to be noticed."""
    async with session.get(f"{origin}/metrics", headers=headers) as answer:
        metrics = {found["name"]: float(found["value"]) for found in _METRIC.finditer(await answer.text())}
    process = psutil.Process(pid)
    memory = process.memory_full_info()
    return Look(
        resident=memory.rss / MEGABYTE,
        own=memory.pss / MEGABYTE,
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        tasks=int(metrics["openai_compat_event_loop_tasks"]),
        in_flight=int(metrics["openai_compat_requests_in_flight"]) - 1,
    )
