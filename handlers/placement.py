"""Where a model runs, in which numbers, and on how many threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

_HALF = ("float16", "bfloat16")
_DTYPES = ("float32", *_HALF)
_GAIN = 1.15
_PROBES = 3
_POOL_MOST = 8


def device_of(spec: ModelSpec) -> torch.device:
    """``auto`` is the first GPU, else Apple's, else the processor. Raises ``ModelUnavailable`` for one that is not there."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if spec.device == "auto":
        return torch.device("cuda:0" if gpus else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(spec.device)
    except RuntimeError as error:
        raise ModelUnavailable(f"There is no device '{spec.device}'.") from error
    there = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": (device.index or 0) < gpus}
    if not there.get(device.type, False):
        raise ModelUnavailable(f"The device '{spec.device}' is not there.")
    return device


def dtype_of(spec: ModelSpec, file_dtype: str, device: torch.device) -> torch.dtype:
    """The type of the weights in memory. Raises ``ModelUnavailable`` for an unknown name.

    ``auto`` is the file's own type, but a half type only where the device computes in it: bfloat16 on a processor that has it,
    else float32.
    """
    import torch

    name = spec.dtype if spec.dtype != "auto" else file_dtype
    if name not in _DTYPES:
        name = "float32" if spec.dtype == "auto" else name
    if name not in _DTYPES:
        raise ModelUnavailable(f"There is no dtype '{name}'; known: {', '.join(_DTYPES)}.")
    if spec.dtype == "auto" and name in _HALF and device.type == "cpu":
        name = "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
    if spec.dtype == "auto" and name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = "float16"
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def set_threads(spec: ModelSpec, step: Callable[[], None]) -> int:
    """The configured number of threads, else a measured one; it is set and returned.

    The rule: start at one, leave one core to the server, and double as long as the decode step ``step`` gains 15 %.
    More threads are often slower, so none is taken on trust.
    """
    import torch

    most = max(1, _usable_cores() - 1)
    best = spec.threads or 1
    torch.set_num_threads(best)
    if spec.threads or most == 1:
        return best
    seconds = _seconds(step)
    while best * 2 <= most:
        torch.set_num_threads(best * 2)
        faster = _seconds(step)
        if faster * _GAIN > seconds:
            torch.set_num_threads(best)
            break
        best, seconds = best * 2, faster
    return best


def set_pool_threads(spec: ModelSpec, use: Callable[[int], None]) -> int:
    """The threads of our own kernels: the configured number, else every core, up to ``_POOL_MOST``.

    Their loops hand out chunks as they go, so a core that the server needs for a moment delays a step little; torch's own
    loops get one thread beside them.
    """
    import torch

    threads = spec.threads or min(_usable_cores(), _POOL_MOST)
    torch.set_num_threads(1)
    use(threads)
    return threads


def use_threads(spec: ModelSpec) -> int:
    """Threads for large matrices, which gain from every core: the configured number, else as ``set_pool_threads``."""
    import torch

    threads = spec.threads or min(_usable_cores(), _POOL_MOST)
    torch.set_num_threads(threads)
    return threads


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _seconds(step: Callable[[], None]) -> float:
    """The best of a few runs after a warm-up."""
    step()
    times = []
    for _ in range(_PROBES):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)
