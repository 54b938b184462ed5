"""How far away everything in a picture is."""

from __future__ import annotations

from typing import Any

from handlers import types as t
from handlers.seeing.backend import Backend, View, Wanted

_METRIC = ("glpn", "zoedepth", "depth_pro")
"""Types of models that estimate metres whatever their configuration says; others may say so themselves."""
_MARGIN = 3.0


class DepthEstimator(Backend):
    kept = ("predicted_depth", "field_of_view", "domain_logits")

    def find(self, output: Any, view: View, wanted: Wanted) -> t.DepthResult:
        height, width = view.picture.height, view.picture.width
        depth = self._depth(output, height, width).reshape(height, width)
        values = depth.contiguous().numpy().astype("<f4").tobytes()
        return t.DepthResult(width=width, height=height, values=values, metric=self._metric)

    def _depth(self, output: Any, height: int, width: int) -> Any:
        if self.model.config.model_type == "zoedepth":
            return _without_margin(output.predicted_depth, height, width)
        return self.processor.post_process_depth_estimation(output, [(height, width)])[0]["predicted_depth"]

    @property
    def _metric(self) -> bool:
        config = self.model.config
        return config.model_type in _METRIC or getattr(config, "depth_estimation_type", None) == "metric"


def _without_margin(depth: Any, height: int, width: int) -> Any:
    """ZoeDepth sees a picture with a mirrored margin. The library takes it off with torchvision, which may not be there."""
    from torch.nn.functional import interpolate

    down, across = (int((side / 2) ** 0.5 * _MARGIN) for side in (height, width))
    size = (height + 2 * down, width + 2 * across)
    whole = interpolate(depth.unsqueeze(1), size=size, mode="bicubic", align_corners=False)
    return whole[0, 0, down : down + height, across : across + width]
