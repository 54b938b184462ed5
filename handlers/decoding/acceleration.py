"""What a GPU adds to the packed way, tried at load: flash attention over the block table, and decodes that are recorded.

Each is used only where it gives the same logits as torch's own attention, called step by step, and left out where it fails.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from handlers.decoding import flash
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.decode_graphs import DecodeGraphs, Recorder, Recording
from handlers.decoding.flash import Flavour
from handlers.decoding.forward import Forward
from handlers.decoding.layouts import Flashed, Gathered, Layouts
from handlers.decoding.probe import Tokens, Verdict, alike
from handlers.decoding.scheduler import Chunk
from handlers.decoding.sequence import Sequence
from handlers.decoding.sizing import EngineOptions

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_BLOCKS = 2
_OVER = 20
_LONGEST = 8192
_SHORT = 7


class Acceleration(Struct, frozen=True, kw_only=True):
    """How steps are run: by which flash attention, None for torch's gathered one; whether decodes are recorded."""

    flavour: Flavour | None = None
    graphs: bool = False

    def __str__(self) -> str:
        attention = "torch's attention" if self.flavour is None else f"{self.flavour.name or 'flash'} attention"
        return f"{attention} and recorded decodes" if self.graphs else attention

    def block_size(self, wanted: int) -> int:
        """Tokens of a block: as wanted, rounded up to what the kernels know."""
        step = 1 if self.flavour is None else self.flavour.block
        return -(-wanted // step) * step

    def forward(self, model: Any, cache: KeyValueCache, context: int, record: Recorder | None = None) -> Forward:
        """Runs ``model``'s steps that way.

        Args:
            context: tokens of the longest sequence.
            record: makes the recordings; CUDA graphs where it is not given.
        """
        device = model.device
        layouts: Layouts = Gathered(cache, device)
        if self.flavour is not None:
            layouts = Flashed(cache, device, self.flavour, most=-(-context // cache.block_size))
        graphs = DecodeGraphs(model, cache, layouts, record or Recording(device)) if self.graphs else None
        return Forward(model, cache, layouts, graphs)


def find(model: Any, verdict: Verdict, context: int, options: EngineOptions) -> Acceleration:
    """What this model gains on its device; nothing on a processor.

    Args:
        verdict: of a model that may be packed and is set for it.
        context: tokens that the model takes.
    """
    import torch

    if model.device.type != "cuda":
        return Acceleration()
    with torch.inference_mode():
        found = Acceleration(flavour=_flavour(model, verdict, context) if options.flash else None)
        recorded = Acceleration(flavour=found.flavour, graphs=True)
        wanted = options.graphs and _stays(model)
        return recorded if wanted and _works(recorded, model, verdict, context) else found


def agrees(tried: Acceleration, model: Any, verdict: Verdict, context: int, record: Recorder | None = None) -> bool:
    """Whether two prompts, packed, in chunks, over several blocks that are out of order, end in the logits of the plain way.

    One of them is longer than a layer's window.
    """
    size = tried.block_size(1)
    long = min(max(_BLOCKS * size, verdict.window) + _OVER, context - 1, _LONGEST)
    plain, other = (_logits(way, model, verdict, size, long, record) for way in (Acceleration(), tried))
    return all(alike(*pair, verdict.tolerance) for pair in zip(plain, other, strict=True))


def _flavour(model: Any, verdict: Verdict, context: int) -> Flavour | None:
    """The fastest flash attention that works; it stays active."""
    if not verdict.plain or not flash.fits(verdict.shapes, verdict.dtype):
        return None
    for flavour in flash.available(model.device):
        if flash.activate(flavour) and _works(Acceleration(flavour=flavour), model, verdict, context):
            return flavour
        flash.restore()
    return None


def _stays(model: Any) -> bool:
    """Whether all weights stay where they are: a recording holds their addresses."""
    return all(parameter.device == model.device for parameter in model.parameters())


def _works(tried: Acceleration, model: Any, verdict: Verdict, context: int) -> bool:
    try:
        works, why = agrees(tried, model, verdict, context), "other logits"
    except Exception as error:  # other people's kernels, made as they are called: they raise what they like
        works, why = False, str(error).partition("\n")[0]
    if not works:
        logger.info("%s is not used for this model: %s", tried, why)
    return works


def _logits(
    way: Acceleration, model: Any, verdict: Verdict, size: int, long: int, record: Recorder | None
) -> tuple[Tensor, Tensor]:
    """Of both prompts' last tokens: the long one's in chunks beside the short one, then a step of two decodes."""
    count = max(-(-long // size), _SHORT)
    cache = KeyValueCache(verdict.shapes, blocks=2 * count, block_size=size, dtype=verdict.dtype, device=model.device)
    forward = way.forward(model, cache, count * size, record)
    one = _prompt(model, 0, long, list(range(2 * count, count, -1)))
    other = _prompt(model, 1, min(_SHORT, long), list(range(count, 0, -1)))
    half, short = long // 2, len(other.ids)
    forward.run([Chunk(one, 0, half), Chunk(other, 0, short - 2)])
    forward.run([Chunk(one, half, long - half - 1), Chunk(other, short - 2, 1)])
    logits = forward.run([Chunk(one, long - 1, 1), Chunk(other, short - 1, 1)])
    if way.graphs and not forward.recorded:
        raise RuntimeError("its decodes cannot be recorded")
    first, second = (logits.rows[logits.of[order].start].clone() for order in (0, 1))
    return first, second


def _prompt(model: Any, order: int, length: int, blocks: list[int]) -> Sequence:
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(order)).tolist()
    return cast(Sequence, Tokens(order, ids, blocks=blocks))
