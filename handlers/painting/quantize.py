"""Smaller weights by setting: ``int8`` by torchao, which is an extra, and ``float8`` storage by diffusers itself."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from handlers.painting.estimate import DECODERS, DENOISERS
from handlers.painting.layout import Component
from handlers.painting.options import Quantization
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

EXTRA = "quantization"


def check_backend(quantization: Quantization) -> None:
    """Raises ``ModelUnavailable`` naming what to install."""
    if quantization == "int8" and find_spec("torchao") is None:
        raise ModelUnavailable(f"Weights of int8 need torchao: install openai-compat[{EXTRA}].")


def loading_config(quantization: Quantization, components: tuple[Component, ...]) -> Any:
    """What ``from_pretrained`` is told: the matrices of the networks that denoise and read become 8 bit integers."""
    if quantization != "int8":
        return None
    from diffusers import PipelineQuantizationConfig, TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig as TransformersTorchAoConfig

    configs = {"diffusers": TorchAoConfig, "transformers": TransformersTorchAoConfig}
    parts = [part for part in components if part.weights and part.name not in DECODERS and part.library in configs]
    mapping = {part.name: configs[part.library](Int8WeightOnlyConfig()) for part in parts}
    return PipelineQuantizationConfig(quant_mapping=mapping)


def store_small(pipeline: Any, quantization: Quantization, compute: torch.dtype) -> None:
    """Weights of the denoiser are kept as float8 and widened layer by layer as they are used."""
    if quantization != "float8":
        return
    import torch

    for name in DENOISERS:
        part: Any = getattr(pipeline, name, None)
        if hasattr(part, "enable_layerwise_casting"):
            part.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)
