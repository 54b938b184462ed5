"""Whether a model may run in bfloat16: only where that is faster here and its vectors stay the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

logger = logging.getLogger(__name__)
LEAST_COSINE = 0.9999
LEAST_GAIN = 1.1
_RUNS = 8
_ROWS = 256
SAMPLES = (
    "How far is it from the Earth to the Moon?",
    "The recipe asks for flour, salt, yeast and a little patience.",
    "Bees dance to tell one another where flowers are, how far away they are, and how good they were this morning.",
    "def area(radius): return 3.14159 * radius ** 2",
    "Der Zug nach Zürich fährt heute von Gleis sieben, nicht wie sonst von Gleis drei; wir bitten um Ihr Verständnis.",
    "Quarterly revenue rose by 4.2 % to 318 million, while costs fell; the board proposes an unchanged dividend.",
)


def gains(device: Any, width: int) -> bool:
    """Whether the device multiplies in bfloat16, and faster than in float32: a layer of ``width``, both ways in turn.

    On one thread, and a layer alone: a whole model takes long enough to be disturbed by whatever else the machine does.
    """
    import torch

    if not _has_half(device):
        return False
    torch.set_num_threads(1)
    full = torch.nn.Linear(width, 4 * width, device=device)
    half = torch.nn.Linear(width, 4 * width, device=device, dtype=torch.bfloat16)
    rows = torch.ones((_ROWS, width), device=device)
    best = {full: float("inf"), half: float("inf")}
    with torch.inference_mode():
        for _ in range(_RUNS):
            for layer in (full, half):
                best[layer] = min(best[layer], _seconds(layer, rows.to(layer.weight.dtype)))
    return best[half] * LEAST_GAIN <= best[full]


def halve(model: Any, run: Callable[[], Sequence[Any]], reload: Callable[[], Any]) -> Any:
    """The model in bfloat16 if its vectors stay the same; else as it was, read anew by ``reload``.

    ``run`` makes the vectors of some samples with ``model``.
    """
    import torch

    before = torch.stack(list(run()))
    model.to(torch.bfloat16)
    after = torch.stack(list(run()))
    cosine = float(torch.nn.functional.cosine_similarity(before, after, dim=-1).min())
    logger.info("the cosine of bfloat16 to float32 is %.6f", cosine)
    return model if cosine >= LEAST_COSINE else reload()


def _has_half(device: Any) -> bool:
    import torch

    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(device.type == "cuda" and torch.cuda.is_bf16_supported())


def _seconds(layer: Any, rows: Any) -> float:
    import torch

    start = time.perf_counter()
    layer(rows)
    if rows.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
