"""The format that a model's matrices have in memory: chosen once, at load, the same for every batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct

from handlers import types as t
from handlers.decoding.kernels.compiler import NotBuilt, library
from handlers.decoding.kernels.llama import fuse
from handlers.decoding.kernels.native import Kernels, Matrix
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

WeightFormat: TypeAlias = Literal["auto", "dtype", "bf16", "int8", "int4"]
FORMATS: tuple[WeightFormat, ...] = ("auto", "dtype", "bf16", "int8", "int4")
BITS: dict[WeightFormat, int] = {"bf16": 16, "int8": 8, "int4": 4}
SLOW = "'%s' is served without fast kernels: several times slower, and a seeded answer may depend on its company (%s)"
WORTHWHILE = 32 << 20
LOSSLESS = 1e-3
SAMPLES = 512
SAMPLE_BYTES = 64 << 20
SAMPLE_ROWS = 8
SMALLEST = 1 << 12
ROUTERS = ("gate", "router")


class Packed(Struct, frozen=True, kw_only=True):
    """What was packed: ``matrices`` by the name of their module, the threads' owner, and whether all layers are one call."""

    kernels: Kernels
    matrices: dict[str, Matrix]
    fused: bool = False

    def pieces(self) -> list[Callable[[], object]]:
        """Products of a few rows with as many of the matrices as no cache holds, to measure threads by."""
        import torch

        chosen: list[Matrix] = []
        for matrix in self.matrices.values():
            if sum(known.nbytes for known in chosen) < SAMPLE_BYTES:
                chosen.append(matrix)
        return [partial(matrix.multiply, torch.ones(SAMPLE_ROWS, matrix.inputs)) for matrix in chosen]


def format_of(spec: t.ModelSpec) -> WeightFormat:
    """``options.weights``, of which ``auto`` is ``bf16`` or ``dtype`` where the operator chose a dtype.

    Raises ``ModelUnavailable`` for an unknown format.
    """
    wanted: WeightFormat = spec.options.get("weights", "auto")
    if wanted not in FORMATS:
        raise ModelUnavailable(f"options.weights of '{spec.id}' is none of {', '.join(FORMATS)}.")
    if wanted == "auto" and spec.dtype != "auto":
        return "bf16" if spec.dtype == "bfloat16" else "dtype"
    return wanted


def is_asked_for(spec: t.ModelSpec) -> bool:
    """Whether the operator named a format that only the kernels have."""
    return spec.options.get("weights", "auto") not in ("auto", "dtype")


def pack_model(model: Any, spec: t.ModelSpec, report: t.LoadReport) -> Packed | None:
    """Put the linear layers of a model on the processor into few bits; None where that is not wanted, worth it or possible."""
    wanted = format_of(spec)
    if wanted == "dtype" or model.device.type != "cpu":
        return None
    layers = dict(_linear_layers(model))
    head = model.get_output_embeddings()
    if not is_asked_for(spec) and sum(_weight_bytes(layer) for layer in layers.values()) < WORTHWHILE:
        return None
    kernels = _kernels(spec, report)
    if kernels is None:
        return None
    matrices = _pack(kernels, layers, head, wanted, report)
    packed = Packed(kernels=kernels, matrices=matrices, fused=fuse(model, kernels, matrices))
    logger.info(
        "'%s' has its matrices in %s bits, its layers run %s",
        spec.id,
        _bits_used(packed),
        "in one call" if packed.fused else "one by one",
    )
    return packed


def _kernels(spec: t.ModelSpec, report: t.LoadReport) -> Kernels | None:
    report("building the kernels")
    try:
        return Kernels(library())
    except (NotBuilt, OSError) as error:
        if is_asked_for(spec):
            raise ModelUnavailable(f"The weights of '{spec.id}' cannot be {format_of(spec)} here: {error}.") from error
        logger.warning(SLOW, spec.id, error)
        return None


def _pack(kernels: Kernels, layers: dict[str, Any], head: Any, wanted: WeightFormat, report: t.LoadReport) -> dict[str, Matrix]:
    """The output head keeps 8 bits where the others get 4: it costs the most quality and is read once a step."""
    total = sum(_weight_bytes(layer) for layer in layers.values())
    done = 0
    matrices: dict[str, Matrix] = {}
    for name, layer in layers.items():
        size = _weight_bytes(layer)
        matrices[name] = _pack_layer(kernels, layer, "int8" if layer is head and wanted == "int4" else wanted)
        done += size
        report("packing the weights", done, total)
    return matrices


def _pack_layer(kernels: Kernels, layer: Any, wanted: WeightFormat) -> Matrix:
    """The layer's weights become a shape without memory, so that a use behind our back fails and is not wrong."""
    import torch

    weights = _rows(layer).float().contiguous()
    matrix = Matrix(kernels, weights, _bits(kernels, weights, wanted))
    bias = None if layer.bias is None else layer.bias.detach().float().contiguous()
    hollow = torch.empty_like(layer.weight, device="meta")
    layer.weight = torch.nn.Parameter(hollow, requires_grad=False)
    layer.forward = partial(matrix.multiply, bias=bias)
    return matrix


def _bits(kernels: Kernels, weights: Tensor, wanted: WeightFormat) -> int:
    """``auto`` takes 4 bits only for weights that were made from 4 bits, so that nothing is lost."""
    if wanted in BITS:
        return BITS[wanted]
    return 4 if kernels.four_bit_loss(weights, SAMPLES) < LOSSLESS else 8


def _bits_used(packed: Packed) -> str:
    return " and ".join(str(bits) for bits in sorted({matrix.bits for matrix in packed.matrices.values()}))


def _linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Routers of experts stay as they are: they are small, and decide."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        large = type(module) in (torch.nn.Linear, Conv1D) and module.weight.numel() >= SMALLEST
        if large and name.rpartition(".")[2] not in ROUTERS:
            yield name, module


def _rows(layer: Any) -> Tensor:
    """The weights as ``[outputs, inputs]``; GPT-2's layers keep them the other way round."""
    weights: Tensor = layer.weight.detach()
    return weights if hasattr(layer, "in_features") else weights.T


def _weight_bytes(layer: Any) -> int:
    size: int = layer.weight.numel() * layer.weight.element_size()
    return size
