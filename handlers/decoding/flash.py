"""Attention over the block table by flash attention: one call for all sequences of a step, decodes and chunks of prompts alike.

It is torch's own ``varlen_attn``, and flash-attn's newer kernels behind the same function where they are installed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers.decoding.attention import Softmax
from handlers.decoding.cache import KeyValueCache, LayerShape
from handlers.decoding.transfer import place

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_LARGEST_HEAD = 256
_HEAD_STEP = 8
_OLDEST = 8
"""Compute capability of the first GPUs it runs on (Ampere)."""


class Flavour(Struct, frozen=True, kw_only=True):
    """Kernels of flash attention.

    Args:
        name: as ``torch.nn.attention`` calls them; None for those that come with torch.
        module: whose presence makes them usable.
        major: compute capability they are for; None for all from Ampere on.
        block: how many tokens a block must hold a multiple of.
        sums: whether they want to know where each sequence's keys begin, though the block table says so.
    """

    name: str | None
    module: str | None
    major: int | None
    block: int
    sums: bool


OWN = Flavour(name=None, module=None, major=None, block=256, sums=True)
FLAVOURS = (
    Flavour(name="FA4", module="flash_attn.cute", major=10, block=128, sums=False),
    Flavour(name="FA3", module="flash_attn_interface", major=9, block=16, sums=False),
    OWN,
)


class Extents(Struct, frozen=True):
    """Where the sequences of a step are, int32 on the device.

    ``begins`` (``[sequences + 1]``) says where each one's tokens begin in the row, ``lengths`` how many tokens it has with
    them, ``table`` (``[sequences, blocks]``) where its blocks are. ``longest`` is the most tokens that one has in the row.
    """

    begins: Tensor
    lengths: Tensor
    table: Tensor
    longest: int


class Flash:
    """One step's layout, in place of ``Paged``.

    Args:
        slots: for each token of the row the place in the cache where its key and value go: block times block size plus offset.
    """

    def __init__(self, cache: KeyValueCache, slots: Tensor, extents: Extents, flavour: Flavour) -> None:
        self.cache = cache
        self._slots = slots
        self._extents = extents
        self._most = extents.table.shape[1] * cache.block_size
        self._sums = _sums(extents.lengths) if flavour.sums else None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, softmax: Softmax) -> Tensor:
        """``query``, ``key`` and ``value`` are ``[heads, tokens, size]``; ``[tokens, heads, size]`` comes back."""
        from torch.nn.attention.varlen import varlen_attn

        self.cache.write(layer, self._slots, key, value)
        extents = self._extents
        found: Tensor = varlen_attn(
            query.transpose(0, 1),
            self.cache.keys[layer],
            self.cache.values[layer],
            extents.begins,
            self._sums,
            extents.longest,
            self._most,
            scale=softmax.scale,
            window_size=self._window(window),
            enable_gqa=True,
            seqused_k=extents.lengths,
            block_table=extents.table,
            num_splits=1,  # else a sequence's numbers would depend on how long the others are
        )
        return found

    def _window(self, window: int | None) -> tuple[int, int]:
        """Single tokens see all that is there, which is told apart since it is faster."""
        if window is None and self._extents.longest == 1:
            return (-1, -1)
        return (-1 if window is None else window - 1, 0)


def extents(counts: list[int], lengths: list[int], blocks: list[list[int]], device: Any) -> Extents:
    """Of sequences with ``counts`` tokens in the row."""
    import torch

    width = max(len(one) for one in blocks)
    return Extents(
        begins=place([0, *accumulate(counts)], device, torch.int32),
        lengths=place(lengths, device, torch.int32),
        table=place([one + [0] * (width - len(one)) for one in blocks], device, torch.int32),
        longest=max(counts),
    )


def fits(shapes: dict[int, LayerShape], dtype: Any) -> bool:
    """Whether the kernels know keys and values like these."""
    import torch

    sizes = {(shape.key_size, shape.value_size) for shape in shapes.values()}
    known = all(key == value and key <= _LARGEST_HEAD and key % _HEAD_STEP == 0 for key, value in sizes)
    return known and dtype in (torch.float16, torch.bfloat16)


def available(device: Any) -> Iterator[Flavour]:
    """What this GPU and what is installed allow, the fastest first."""
    import torch

    if device.type != "cuda":
        return
    major, _ = torch.cuda.get_device_capability(device)
    for flavour in FLAVOURS:
        usable = flavour.major == major if flavour.major is not None else major >= _OLDEST
        if usable and (flavour.module is None or _is_there(flavour.module)):
            yield flavour


def activate(flavour: Flavour) -> bool:
    """Let ``varlen_attn`` use these kernels from now on; False where they cannot be loaded."""
    from torch.nn.attention import activate_flash_attention_impl

    if flavour.name is None:
        return True
    try:
        activate_flash_attention_impl(flavour.name)
    except (RuntimeError, ValueError, ImportError, OSError) as error:
        logger.info("%s cannot be used: %s", flavour.name, error)
        return False
    return True


def restore() -> None:
    """Let it use torch's own again."""
    from torch.nn.attention import current_flash_attention_impl, restore_flash_attention_impl

    if current_flash_attention_impl() is not None:
        restore_flash_attention_impl()


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError, OSError):  # what stands around it is run for that
        return False


def _sums(lengths: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
