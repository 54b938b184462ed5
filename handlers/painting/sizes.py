"""The sizes that a pipeline can make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from msgspec import Struct

from handlers import types as t
from handlers.analyze import read_json
from handlers.painting.calls import Call
from handlers.painting.estimate import GENERATION, MAX_SIDE, native_size
from openai_compat.errors import InvalidRequest

_LEAST_MULTIPLE = 8
_LATENTS = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_scale_factor")
_PROCESSORS = ("image_processor", "video_processor")

Size = tuple[int, int]


class Sizes(Struct, frozen=True):
    """Width before height, in pixels.

    ``multiple``: of it each side has to be. ``allowed``: nothing but these; empty for any from half to twice the native side.
    """

    native: Size
    multiple: int
    allowed: tuple[Size, ...] = ()
    fixed: bool = False

    def checked(self, width: int | None, height: int | None) -> Size:
        """The size that was asked for, or the native one. Raises ``InvalidRequest`` naming ``size`` and what is possible."""
        size = (width or self.native[0], height or self.native[1])
        if size == self.native and not self.allowed:
            return size
        possible = size in self.allowed if self.allowed else not self.fixed and all(self._possible(side) for side in size)
        if not possible and not (width is None and height is None):
            raise InvalidRequest(f"This model makes no pictures of {size[0]}x{size[1]}; {self._told()}.", param="size")
        return size if possible else self.allowed[0]

    def near(self, picture: t.Picture) -> Size:
        """The proportions of ``picture`` on the area of the native size, as near as it can be made."""
        if self.allowed or self.fixed:
            return min(self.allowed or (self.native,), key=lambda size: abs(math.log(_ratio(size) / _ratio(_size(picture)))))
        scale = math.sqrt(math.prod(self.native) / math.prod(_size(picture)))
        across, down = (self._rounded(side * scale) for side in _size(picture))
        return across, down

    @property
    def _least(self) -> int:
        return -(-min(self.native) // (2 * self.multiple)) * self.multiple

    @property
    def _most(self) -> int:
        return min(2 * max(self.native), MAX_SIDE) // self.multiple * self.multiple

    def _possible(self, side: int) -> bool:
        return self._least <= side <= self._most and side % self.multiple == 0

    def _rounded(self, side: float) -> int:
        return min(max(round(side / self.multiple) * self.multiple, self._least), self._most)

    def _told(self) -> str:
        if self.allowed:
            return "possible are " + ", ".join(f"{width}x{height}" for width, height in self.allowed)
        if self.fixed:
            return f"it makes {self.native[0]}x{self.native[1]} only"
        usual = f"{self.native[0]}x{self.native[1]}"
        return f"a side has {self._least} to {self._most} pixels and is a multiple of {self.multiple}; usual is {usual}"


def sizes_of(pipeline: Any, call: Call, root: Path, allowed: tuple[str, ...]) -> Sizes:
    """Raises ``BadHeader`` for files that cannot be read."""
    native = _native(pipeline, call, root)
    multiple = math.gcd(_multiple(pipeline), *native)
    pairs = tuple((int(width), int(height)) for width, _, height in (text.partition("x") for text in allowed))
    return Sizes(native, multiple, pairs, fixed=not call.takes("height") and not call.takes("image"))


def _native(pipeline: Any, call: Call, root: Path) -> Size:
    """The model's own word for it, else the pipeline's defaults, else what its networks were made for."""
    if not {"width", "height"} <= read_json(root / GENERATION).keys():
        width, height = call.default("width"), call.default("height")
        if isinstance(width, int) and isinstance(height, int):
            return width, height
        side = getattr(pipeline, "default_sample_size", None)
        factor = next((getattr(pipeline, name) for name in _LATENTS if hasattr(pipeline, name)), None)
        if isinstance(side, int) and isinstance(factor, int):
            return side * factor, side * factor
    return native_size(root)


def _multiple(pipeline: Any) -> int:
    """Pixels a latent, and latents a patch; every pipeline asks for a multiple of 8 at least."""
    factors = [getattr(pipeline, name) for name in _LATENTS if hasattr(pipeline, name)]
    processors = [getattr(pipeline, name) for name in _PROCESSORS if hasattr(pipeline, name)]
    factors += [getattr(getattr(processor, "config", None), "vae_scale_factor", 1) for processor in processors]
    patch = getattr(getattr(getattr(pipeline, "transformer", None), "config", None), "patch_size", 1)
    patch = patch[-1] if isinstance(patch, list | tuple) and patch else patch
    latent = max((factor for factor in factors if isinstance(factor, int)), default=1)
    return math.lcm(_LEAST_MULTIPLE, latent * (patch if isinstance(patch, int) else 1))


def _size(picture: t.Picture) -> Size:
    return picture.width, picture.height


def _ratio(size: Size) -> float:
    return size[0] / size[1]
