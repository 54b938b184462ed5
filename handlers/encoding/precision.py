"""Whether a model may run in bfloat16: only where that is faster here and its vectors stay the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

logger = logging.getLogger(__name__)
LEAST_COSINE = 0.9999
LEAST_GAIN = 1.1
_RUNS = 2
SAMPLES = (
    "How far is it from the Earth to the Moon?",
    "The recipe asks for flour, salt, yeast and a little patience.",
    "Bees dance to tell one another where flowers are, how far away they are, and how good they were this morning.",
    "def area(radius): return 3.14159 * radius ** 2",
    "Der Zug nach Zürich fährt heute von Gleis sieben, nicht wie sonst von Gleis drei; wir bitten um Ihr Verständnis.",
    "Quarterly revenue rose by 4.2 % to 318 million, while costs fell; the board proposes an unchanged dividend.",
)


def computes_half(device: Any) -> bool:
    """Whether the device has bfloat16 in hardware."""
    import torch

    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(device.type == "cuda" and torch.cuda.is_bf16_supported())


def halve(model: Any, run: Callable[[], Sequence[Any]], reload: Callable[[], Any]) -> Any:
    """The model in bfloat16 if that gains; else as it was, read anew by ``reload``.

    ``run`` makes the vectors of some samples with ``model``.
    """
    import torch

    before, slow = _measured(run)
    model.to(torch.bfloat16)
    after, fast = _measured(run)
    cosine = float(torch.nn.functional.cosine_similarity(before, after, dim=-1).min())
    gains = cosine >= LEAST_COSINE and fast * LEAST_GAIN <= slow
    logger.info("bfloat16 is %.2f times as fast, cosine %.6f: %s", slow / fast, cosine, "used" if gains else "not used")
    return model if gains else reload()


def _measured(run: Callable[[], Sequence[Any]]) -> tuple[Any, float]:
    """The vectors, and the seconds of the best of a few runs after a warm-up."""
    import torch

    vectors = torch.stack(list(run()))
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return vectors, min(times)
