"""What an operator may set for a pipeline in the configuration (``options``)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

Steps = Annotated[int, Meta(ge=1, le=1000)]
Guidance = Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(gt=0, le=1)]
Size = Annotated[str, Meta(pattern=r"^[1-9][0-9]{1,4}x[1-9][0-9]{1,4}$")]
Offload: TypeAlias = Literal["auto", "none", "model", "sequential", "group", "disk"]
Quantization: TypeAlias = Literal["none", "int8", "float8"]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``docs/pictures.md`` tells what each is for.

    ``None`` leaves a choice to the model's own files, then to the pipeline; for slicing and tiling, to the plan that
    ``estimate.recommend`` makes. ``pixels`` is the most of a video, all its frames together.
    """

    steps: Steps | None = None
    guidance: Guidance | None = None
    max_steps: Steps = 200
    strength: Share | None = None
    vary_strength: Share = 0.6
    sizes: tuple[Size, ...] = ()
    max_batch: Annotated[int, Meta(ge=1, le=16)] = 4
    truncate: bool = False
    paste: bool = True
    frames: Annotated[int, Meta(ge=1, le=256)] | None = None
    rate: Annotated[float, Meta(gt=0, le=120)] | None = None
    max_frames: Annotated[int, Meta(ge=1, le=256)] = 256
    max_pixels: Annotated[int, Meta(ge=1)] = 256 * 512 * 512
    attention_slicing: bool | None = None
    vae_slicing: bool | None = None
    vae_tiling: bool | None = None
    offload: Offload = "auto"
    quantization: Quantization = "none"
