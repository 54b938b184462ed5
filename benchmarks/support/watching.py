"""What a server takes, seen from outside: processor time, memory, descriptors, threads, and what its metrics say of it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import psutil
from msgspec import Struct

_METRIC = re.compile(r"^(?P<name>\w+)(?:\{[^}]*\})? (?P<value>\S+)$", re.MULTILINE)
MEGABYTE = 1e6
_FEWEST = 5


class Look(Struct, frozen=True, kw_only=True):
    """One look at the process that answers. Memory in MB: resident, and what it has of its own (see ``own_of``)."""

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


def own_of(process: psutil.Process) -> float:
    """Memory in MB that is no file's, swapped or not; 0 where the process has gone.

    Its share of files (in PSS) goes up and down with what other programs read of the same files: by 60 MB for a worker, as
    somebody else's has ended.
    """
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        return sum(int(status[name].split()[0]) for name in ("RssAnon", "VmSwap")) * 1024 / MEGABYTE
    except (OSError, KeyError):
        return 0.0


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """By least squares, of (seconds, MB): MB an hour, and twice the standard error of that."""
    if len(points) < _FEWEST:
        return 0.0, math.inf
    hours = [at / 3600 for at, _ in points]
    middle, mean = sum(hours) / len(hours), sum(own for _, own in points) / len(points)
    width = sum((at - middle) ** 2 for at in hours)
    rise = sum((at - middle) * own for at, (_, own) in zip(hours, points, strict=True)) / width
    rest = sum((own - mean - rise * (at - middle)) ** 2 for at, (_, own) in zip(hours, points, strict=True))
    return rise, 2 * math.sqrt(rest / (len(points) - 2) / width)


async def look(session: aiohttp.ClientSession, pid: int, origin: str, headers: dict[str, str]) -> Look:
    """Asks ``origin`` for its metrics; a server that is slow to answer is one to be noticed."""
    async with session.get(f"{origin}/metrics", headers=headers) as answer:
        metrics = {found["name"]: float(found["value"]) for found in _METRIC.finditer(await answer.text())}
    process = psutil.Process(pid)
    return Look(
        resident=process.memory_info().rss / MEGABYTE,
        own=own_of(process),
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        tasks=int(metrics["openai_compat_event_loop_tasks"]),
        in_flight=int(metrics["openai_compat_requests_in_flight"]) - 1,
    )
