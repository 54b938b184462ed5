"""How much memory a pipeline takes, from its files alone, and what to do where that is too much.

Weights are counted from their headers. What is computed on the way is estimated for one batch at the model's own size::

    denoising = pictures x 2 (guidance) x latent area x width of the first block x LIVE_WIDTHS numbers
    decoding  = pictures x pixels x width of the decoder's last block x LIVE_MAPS numbers

A video is a batch of frames: its latents one for four of them, its decoder working on ``FRAMES_AT_ONCE``.

Imports no heavy library.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from msgspec import Struct

from handlers.analyze import DTYPE_BYTES, read_json
from handlers.painting.layout import Weights
from handlers.painting.options import Offload, Options

LIVE_WIDTHS = 34
LIVE_MAPS = 8
USUAL_FRAMES = 48
FRAMES_A_LATENT = 4
FRAMES_AT_ONCE = 16
USUAL_SAMPLE = 128
USUAL_WIDTH = 128
MAX_SIDE = 16_384
TILED = 0.25  # of decoding, where it is done in tiles
DENOISERS = ("unet", "transformer", "prior", "decoder")
DECODERS = ("vae", "movq", "vqgan", "vqvae")
GENERATION = "generation_config.json"


class Needs(Struct, frozen=True):
    """Bytes: all weights, the largest component's, and what one batch takes while it is denoised and while it is decoded."""

    weights: int
    largest: int
    denoising: int
    decoding: int

    @property
    def working(self) -> int:
        """The two do not come at the same time."""
        return max(self.denoising, self.decoding)

    @property
    def total(self) -> int:
        return self.weights + self.working


class Plan(Struct, frozen=True):
    """What saves memory; each costs time."""

    attention_slicing: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False
    offload: Offload = "none"


def needs_of(root: Path, weights: tuple[Weights, ...], dtype: str, options: Options, *, video: bool) -> Needs:
    """``dtype``: of the numbers in memory. Raises ``BadHeader``."""
    bytes_each = DTYPE_BYTES.get(dtype, 4)
    sizes = [_bytes(part, bytes_each, options.quantization != "none") for part in weights]
    width, height = native_size(root)
    latent = width * height // latent_factor(root) ** 2
    frames = options.frames or USUAL_FRAMES
    latents, pictures = options.max_batch, options.max_batch
    if video:
        latents, pictures = -(-frames // FRAMES_A_LATENT), min(frames, FRAMES_AT_ONCE)
    denoising = latents * 2 * latent * _width(root, DENOISERS) * LIVE_WIDTHS * bytes_each
    decoding = pictures * width * height * _width(root, DECODERS) * LIVE_MAPS * bytes_each
    return Needs(sum(sizes), max(sizes, default=0), denoising, decoding)


def recommend(needs: Needs, free: int, *, accelerator: bool, pictures: int = 1) -> Plan:
    """The least that makes it fit into ``free`` bytes; off an accelerator there is nowhere better to put weights.

    Args:
        pictures: of one batch; slicing decodes them one after the other.
    """
    if needs.total <= free:
        return Plan()
    decoding = int(needs.decoding / max(1, pictures) * TILED)
    saving = Plan(vae_slicing=True, vae_tiling=True)
    if needs.weights + max(needs.denoising, decoding) <= free:
        return saving
    saving = Plan(attention_slicing=True, vae_slicing=True, vae_tiling=True)
    if not accelerator:
        return saving
    fits = needs.largest + max(needs.denoising, decoding) <= free
    return Plan(True, True, True, "model" if fits else "sequential")


def native_size(root: Path) -> tuple[int, int]:
    """Width and height that the model was made for, as its files say; 1024 where they say nothing. Raises ``BadHeader``."""
    own = read_json(root / GENERATION)
    if (width := _side(own.get("width"))) and (height := _side(own.get("height"))):
        return width, height
    factor = latent_factor(root)
    across, down = _sample(_config(root, DENOISERS))
    return min(across * factor, MAX_SIDE), min(down * factor, MAX_SIDE)


def latent_factor(root: Path) -> int:
    """Pixels a latent, along one side. Raises ``BadHeader``."""
    config = _config(root, DECODERS)
    if not config:
        return 1
    for key in ("spatial_compression_ratio", "scale_factor_spatial"):
        if told := _side(config.get(key)):
            return min(told, 128)
    for key in ("block_out_channels", "encoder_block_out_channels", "dim_mult"):
        if isinstance(blocks := config.get(key), list) and blocks:
            return 1 << min(len(blocks) - 1, 7)
    return 8


def _bytes(part: Weights, bytes_each: int, quantized: bool) -> int:
    """Quantised, the matrices of linear layers take one byte a number."""
    if not quantized or part.component in DECODERS:
        return part.elements * bytes_each
    return sum(tensor.elements * (1 if len(tensor.shape) == 2 else bytes_each) for tensor in part.tensors)


def _sample(config: dict[str, Any]) -> tuple[int, int]:
    size = config.get("sample_size")
    pair = size if isinstance(size, list) and len(size) == 2 else [size, size]
    down, across = config.get("sample_height", pair[0]), config.get("sample_width", pair[1])
    return _side(across) or USUAL_SAMPLE, _side(down) or USUAL_SAMPLE


def _width(root: Path, names: tuple[str, ...]) -> int:
    config = _config(root, names)
    blocks = config.get("block_out_channels") or config.get("decoder_block_out_channels")
    first = blocks[0] if isinstance(blocks, list) and blocks else None
    heads, each = _side(config.get("num_attention_heads")), _side(config.get("attention_head_dim"))
    return _side(first) or _side(config.get("base_dim")) or (math.prod((heads, each)) if heads and each else USUAL_WIDTH)


def _config(root: Path, names: tuple[str, ...]) -> dict[str, Any]:
    return next((config for name in names if (config := read_json(root / name / "config.json"))), {})


def _side(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= MAX_SIDE else None
