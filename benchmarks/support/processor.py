"""How much processor time a process and its children have used."""

from __future__ import annotations

import time

import psutil


def processor_seconds(pid: int) -> float:
    """Of the tree under ``pid``. Finer than the hundredths of a second in which Linux tells other processes' times."""
    root = psutil.Process(pid)
    return sum(map(_seconds, [root, *root.children(recursive=True)]))


def _seconds(process: psutil.Process) -> float:
    try:
        return time.clock_gettime((~process.pid << 3) | 2)  # clock_getcpuclockid(3), as the kernel spells it
    except OSError:
        return float(sum(process.cpu_times()[:2]))
