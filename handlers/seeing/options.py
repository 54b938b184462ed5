"""What ``[models.ID.options]`` may say of a vision model."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from handlers.offload import Offload
from handlers.quantization import Quantization

Subtask = Literal["panoptic", "instance", "semantic"]


class VisionOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``label_template`` is what a classifier by any labels reads, ``{}`` standing for the label.

    ``segmentation`` chooses among the kinds that a model can do; ``batch_patches`` is how many squares of 16 by 16 pixels one
    forward may have; ``offload`` is where weights wait that do not fit on the GPU, ``quantization`` what they become.
    """

    label_template: Annotated[str, Meta(max_length=256, pattern=r"\{\}")] = "This is a photo of {}."
    offload: Offload = "auto"
    quantization: Quantization = "none"
    segmentation: Subtask | None = None
    batch_patches: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
