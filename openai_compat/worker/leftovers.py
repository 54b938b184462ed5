"""Memory that jobs leave behind in this process, given back to the system and the GPU: after a failure, and after a large job.

Python, the C library and torch keep what was freed for the next time. That is right for what every job needs, and wrong for
what one job in a thousand needs.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import psutil

LARGE = 512 << 20
"""Bytes that the process holds beyond what it held before, or that torch keeps of a GPU for nobody."""


class Leftovers:
    """Belongs to the model's thread. A look costs some microseconds; giving back takes tens of milliseconds.

    Args:
        held: bytes of main memory that this process has.
    """

    def __init__(self, held: Callable[[], int] | None = None, *, large: int = LARGE) -> None:
        self._held = held or _resident()
        self._large = large
        self._usual = 0
        self._usual_on_gpus = 0
        self._failed = False

    def settle(self) -> None:
        """Take what is held now for usual: a model was loaded."""
        self._usual = self._held()

    def failed(self) -> None:
        """A job failed, so that nobody knows what is left of it."""
        self._failed = True

    def look(self) -> bool:
        """Give back what was left where it is much; for moments in which nothing runs. Returns whether it did."""
        held = self._held()
        more = max(held - self._usual, _unused_on_gpus() - self._usual_on_gpus)
        if not self._failed and more < self._large:
            return False
        self._failed = False
        give_back()
        self._usual = max(self._usual, self._held())
        self._usual_on_gpus = _unused_on_gpus()  # what recorded steps keep cannot be given back
        return True


def give_back() -> None:
    """Free what nobody refers to, and hand back what is free."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if (trim := _trim()) is not None:
        trim(0)


def _resident() -> Callable[[], int]:
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


def _unused_on_gpus() -> int:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    gpus = range(torch.cuda.device_count())
    return int(sum(torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu) for gpu in gpus))


def _trim() -> Any:
    """``malloc_trim``, where the C library has it: glibc does, those of Apple and of Alpine do not."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
