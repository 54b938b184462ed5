"""From the vectors of a text's tokens to one vector; all in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.encoding.layout import Dense, Layout
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 1e-9
_LOWEST = -1e9
_WIDE = 1 << 20


class Head:
    """Pooling and what comes behind it."""

    def __init__(self, layout: Layout, root: Path, device: Any) -> None:
        self._pooling = layout.pooling
        self._steps = tuple(_dense(root, step, device) if isinstance(step, Dense) else normalize for step in layout.steps)
        self.normalizes = "normalize" in layout.steps
        self.cut = layout.truncate_dim

    def __call__(self, hidden: Tensor, lengths: Tensor, skipped: Tensor | None = None) -> Tensor:
        """``hidden`` is [texts, tokens, width], padded at the end; ``skipped`` tokens at each front do not count."""
        vectors = pool(hidden.float(), lengths, self._pooling, skipped)
        for step in self._steps:
            vectors = step(vectors)
        if self.cut is not None and self.cut < vectors.shape[-1]:
            vectors = normalize(vectors[:, : self.cut]) if self.normalizes else vectors[:, : self.cut]
        return vectors


def normalize(vectors: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.normalize(vectors, dim=-1)


def pool(hidden: Tensor, lengths: Tensor, modes: tuple[str, ...], skipped: Tensor | None = None) -> Tensor:
    """One vector a text, several ways side by side; ``hidden`` is padded at the end to the longest of ``lengths``."""
    import torch

    places = torch.arange(hidden.shape[1], device=hidden.device)
    counted = places < lengths[:, None]
    if skipped is not None:
        counted &= places >= skipped[:, None]
    ways = {
        "cls": lambda: hidden[:, 0],
        "max": lambda: hidden.masked_fill(~counted[..., None], _LOWEST).amax(1),
        "mean": lambda: _weighted(hidden, counted.float(), lambda total: total),
        "mean_sqrt_len": lambda: _weighted(hidden, counted.float(), lambda total: total.sqrt()),
        "weightedmean": lambda: _weighted(hidden, counted * (places + 1).float(), lambda total: total),
        "lasttoken": lambda: hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1],
    }
    return torch.cat([ways[mode]() for mode in modes], dim=-1)


def _weighted(hidden: Tensor, weights: Tensor, divisor: Callable[[Tensor], Tensor]) -> Tensor:
    total = weights.sum(1, keepdim=True).clamp(min=_SMALL)
    return (weights[:, None] @ hidden).squeeze(1) / divisor(total)


def _dense(root: Path, spec: Dense, device: Any) -> Callable[[Tensor], Tensor]:
    """Raises ``ModelUnavailable`` where the weights are not those of a linear layer."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(root / spec.folder / "model.safetensors")
    weight, bias = weights.get("linear.weight"), weights.get("linear.bias")
    if weight is None or weight.ndim != 2 or max(weight.shape) > _WIDE or (bias is not None and bias.ndim != 1):
        raise ModelUnavailable(f"{spec.folder}/model.safetensors: has no linear layer.")
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in weights.items()})
    whole: Callable[[Tensor], Tensor] = torch.nn.Sequential(layer, getattr(torch.nn, spec.activation)()).to(device)
    return whole
