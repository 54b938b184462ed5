"""Where a model runs, in which numbers, and on how many threads."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_HALF = ("float16", "bfloat16")
_DTYPES = ("float32", *_HALF)
_GAIN = 1.15
_PROBES = 3
_POOL_MOST = 8
_DOUBLES = (1, 2, 4)
_NEARLY = 1.1
_TURNS = 12


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


def set_pool_threads(spec: ModelSpec, use: Callable[[int], None], pieces: Sequence[Callable[[], object]]) -> int:
    """The threads of our own kernels: the configured number, else a measured one, up to every core and ``_POOL_MOST``.

    The rule: the most that take at most 10 % longer than the fastest. The numbers take turns, and each keeps its best time for
    every piece: other work on the machine for a moment decides nothing, and what is left of it only makes many threads look
    worse. No core is left to the server: the kernels' loops hand out chunks as they go, so a core that it needs for a moment
    delays a step little. torch's own loops get one thread beside them.

    Args:
        use: lets the kernels use so many threads.
        pieces: some work of the kernels, of a millisecond or less each: short enough to run undisturbed once in a while.
    """
    import torch

    torch.set_num_threads(1)
    most = min(_usable_cores(), _POOL_MOST)
    if spec.threads or most == 1:
        threads = spec.threads or 1
        use(threads)
        return threads
    seconds = _seconds_in_turns(sorted({most, *(n for n in _DOUBLES if n < most)}), use, pieces)
    enough = min(seconds.values()) * _NEARLY
    threads = max(count for count, took in seconds.items() if took <= enough)
    use(threads)
    shown = ", ".join(f"{took * 1e3:.1f} ms on {count}" for count, took in seconds.items())
    logger.info("'%s' computes on %d threads: measured were %s", spec.id, threads, shown)
    return threads


def _seconds_in_turns(
    counts: list[int], use: Callable[[int], None], pieces: Sequence[Callable[[], object]]
) -> dict[int, float]:
    """The best time of all pieces, each at its best, by number of threads."""
    best = {count: [float("inf")] * len(pieces) for count in counts}
    for _ in range(_TURNS):
        for count in counts:
            use(count)
            for i, piece in enumerate(pieces):
                start = time.perf_counter()
                piece()
                best[count][i] = min(best[count][i], time.perf_counter() - start)
    return {count: sum(times) for count, times in best.items()}


def use_threads(spec: ModelSpec) -> int:
    """The configured number, else every core but the one that the server needs, up to ``_POOL_MOST``.

    torch's threads wait for one another at each layer: on a busy core they make a step many times slower.
    """
    import torch

    threads = spec.threads or max(1, min(_usable_cores() - 1, _POOL_MOST))
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
