"""How much an engine takes at once, from the operator's options or the memory that is there."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from handlers.analyze import USUAL_CACHE, USUAL_SEQUENCES
from handlers.decoding.cache import LayerShape, bytes_per_token
from handlers.decoding.scheduler import Limits
from handlers.offload import WORKING

_SHARE_CPU = 0.25
_SHARE_GPU = 0.8
_STEP_CPU = 256
_STEP_GPU = 4096
_SEQUENCES_GPU = 256

Positive = Annotated[int, Meta(ge=1)]


class EngineOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``options.engine`` of a model. Tokens a step, sequences at once, bytes of the key/value cache, tokens a block.

    On a GPU, and where they work: ``flash`` attention, ``graphs`` of decodes. ``ahead``: start a step before the last one's
    tokens are read; None: on a GPU.
    """

    step_tokens: Positive | None = None
    sequences: Positive | None = None
    cache_bytes: Positive | None = None
    block_size: Annotated[int, Meta(ge=1, le=1024)] = 16
    ahead: bool | None = None
    flash: bool = True
    graphs: bool = True


def limits(options: EngineOptions, device: Any) -> Limits:
    cpu = device.type == "cpu"
    return Limits(
        step_tokens=options.step_tokens or (_STEP_CPU if cpu else _STEP_GPU),
        sequences=options.sequences or (USUAL_SEQUENCES if cpu else _SEQUENCES_GPU),
    )


def blocks(
    options: EngineOptions, shapes: dict[int, LayerShape], context: int, dtype: Any, device: Any, *, block_size: int
) -> int:
    """Blocks of the cache: one full context at least, and no more than all sequences could ever fill."""
    needed = -(-context // block_size)
    most = needed * limits(options, device).sequences
    wanted = (options.cache_bytes or _default_bytes(device)) // (bytes_per_token(shapes, dtype.itemsize) * block_size)
    return int(min(max(wanted, needed), most))


def _default_bytes(device: Any) -> int:
    import psutil
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()  # what trials used counts as taken until then
        free, _ = torch.cuda.mem_get_info(device)
        return int(max(0, min(free * _SHARE_GPU, free - WORKING)))
    return int(min(USUAL_CACHE, psutil.virtual_memory().available * _SHARE_CPU))
