"""Weights of transformers' models as 8 bit integers, made of full ones as they are loaded; by torchao, which is an extra."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from handlers import types as t
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

Quantization: TypeAlias = Literal["none", "int8"]
EXTRA = "quantization"


def wanted(spec: t.ModelSpec) -> bool:
    """Raises ``ModelUnavailable`` for an unknown setting, and naming what to install."""
    told = spec.options.get("quantization", "none")
    if told not in get_args(Quantization):
        raise ModelUnavailable(f"options.quantization of '{spec.id}' is one of {', '.join(get_args(Quantization))}.")
    if told == "none":
        return False
    if find_spec("torchao") is None:
        raise ModelUnavailable(f"Weights of int8 need torchao: install openai-compat[{EXTRA}].")
    if spec.options.get("offload") in ("cpu", "disk"):
        raise ModelUnavailable(f"The weights of '{spec.id}' cannot be both quantised and kept elsewhere.")
    return True


def shrink(model: Any, device: torch.device) -> Any:
    """The matrices of linear layers as integers, which are widened as they are used, on ``device``.

    One layer after the other, so that ``device`` never holds the full weights. The output layer stays as it is: what it is
    rounded by shows at once.
    """
    import torch
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    output = model.get_output_embeddings()
    quantize_(
        model,
        Int8WeightOnlyConfig(),
        filter_fn=lambda module, _: isinstance(module, torch.nn.Linear) and module is not output,
        device=device,
    )
    return model.to(device)
