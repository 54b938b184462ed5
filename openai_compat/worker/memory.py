"""What this process holds: private host memory, and what torch has reserved on each device."""

from __future__ import annotations

import sys
import time
from typing import Any

import psutil

from openai_compat.protocol import Memory

COST_SHARE = 50


def measure() -> Memory:
    """Bytes held now. Reading them walks the page tables: about 15 ms a gigabyte."""
    return Memory(host=_private(), devices=_reserved(sys.modules.get("torch")))


def _private() -> int:
    """PSS where the system counts it: pages shared with the fork server are not counted for each worker again."""
    process = psutil.Process()
    try:
        info = process.memory_full_info()
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(getattr(info, "pss", 0) or info.uss)


def _reserved(torch: Any) -> dict[str, int]:
    """Never initialises CUDA: a context alone takes hundreds of megabytes."""
    if torch is None or not torch.cuda.is_initialized():
        return {}
    reserved = {f"cuda:{index}": int(torch.cuda.memory_reserved(index)) for index in range(torch.cuda.device_count())}
    return {name: size for name, size in reserved.items() if size}


class Gauge:
    """The latest measurement, renewed only as often as it costs at most a fiftieth of the time."""

    def __init__(self) -> None:
        self._memory = Memory(host=0)
        self._due = 0.0

    def read(self) -> Memory:
        began = time.monotonic()
        if began >= self._due:
            self._memory = measure()
            ended = time.monotonic()
            self._due = ended + COST_SHARE * (ended - began)
        return self._memory
