"""Models of transformers that are larger than their GPU: what does not fit waits in main memory or on the disk.

Accelerate brings a layer's weights to where it computes as the layer runs: the numbers are the same, each step takes longer.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from msgspec import Struct

from handlers import types as t
from handlers.analyze import DTYPE_BYTES, read_weights
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Offload: TypeAlias = Literal["auto", "none", "cpu", "disk"]
WORKING = 1 << 30
"""Bytes of a GPU that are kept for what is computed on the way."""
_ROOM = 0.9
"""Of what is free: the rest is for what else the process and its neighbours come to need."""


class Free(Struct, frozen=True):
    """Bytes that can be had: on the device that computes, and in main memory."""

    device: int
    host: int

    @property
    def for_weights(self) -> tuple[int, int]:
        """The same, less what is needed otherwise."""
        return max(0, int(self.device * _ROOM) - WORKING), int(self.host * _ROOM)


def decide(needed: int, free: Free) -> Offload:
    """Where to keep ``needed`` bytes of weights beside those on the GPU: as near as they fit."""
    near, far = free.for_weights
    if needed <= near:
        return "none"
    return "cpu" if needed <= near + far else "disk"


def chosen(spec: t.ModelSpec, device: torch.device, dtype: torch.dtype) -> Offload:
    """What the operator set, else what fits; a processor's weights are in main memory already, or on the disk if told so.

    Raises ``ModelUnavailable`` for an unknown setting.
    """
    told = spec.options.get("offload", "auto")
    if told not in get_args(Offload):
        raise ModelUnavailable(f"options.offload of '{spec.id}' is one of {', '.join(get_args(Offload))}.")
    if told == "disk" or (told == "cpu" and device.type == "cuda"):
        return "disk" if told == "disk" else "cpu"
    if told != "auto" or device.type != "cuda":
        return "none"
    tensors = read_weights(Path(spec.path)).tensors
    size = DTYPE_BYTES.get(str(dtype).removeprefix("torch."), 4)
    return decide(sum(tensor.elements for tensor in tensors) * size, free_on(device))


def free_on(device: torch.device) -> Free:
    import psutil

    host = int(psutil.virtual_memory().available)
    if device.type != "cuda":
        return Free(0, host)
    import torch

    return Free(int(torch.cuda.mem_get_info(device)[0]), host)


def arguments(spec: t.ModelSpec, cls: Any, config: Any, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What ``cls.from_pretrained`` is told of places, an automatic class or one of a model. Raises ``ModelUnavailable``."""
    choice = chosen(spec, device, dtype)
    if choice == "none":
        return {"device_map": {"": device}}
    logger.info("'%s' does not stay on %s: offload to %s", spec.id, device, choice)
    places = _places(_empty(cls, config), choice, device, dtype)
    return {"device_map": places, "offload_folder": tempfile.mkdtemp(prefix="weights-")}


def tidy(model: Any, arguments: dict[str, Any]) -> None:
    """The folder that ``arguments`` named goes when the model does."""
    if folder := arguments.get("offload_folder"):
        weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)


def is_offloaded(model: Any) -> bool:
    """Whether some of the weights are elsewhere while they are not needed."""
    return any(parameter.device.type == "meta" for parameter in model.parameters())


def _empty(cls: Any, config: Any) -> Any:
    """The model's shape without its weights."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        return cls.from_config(config) if hasattr(cls, "from_config") else cls._from_config(config)


def _places(model: Any, choice: Offload, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """A place for each part: as many as fit on the GPU, the next in main memory, the rest on the disk.

    The first part says where a model computes, and tables are read without being run, so those stay.
    """
    import torch
    from accelerate import infer_auto_device_map

    near, far = free_on(device).for_weights
    main = device.index or 0 if device.type == "cuda" else "cpu"
    limits: dict[Any, int] = {"cpu": far if choice == "cpu" else 1}
    if device.type == "cuda":
        limits[main] = near
    places = infer_auto_device_map(
        model, max_memory=limits, no_split_module_classes=model._no_split_modules, dtype=dtype, clean_result=False
    )
    modules = dict(model.named_modules())
    for parameter in [name for name in places if name not in modules]:  # the module that has it by itself stays whole
        parent = parameter.rpartition(".")[0]
        inside = {name for name in places if parent and name.startswith(f"{parent}.")}
        places = {name: place for name, place in places.items() if name not in inside} | {parent or parameter: main}
    first = next(name for name, _ in model.named_parameters())
    stay = {name for name, module in modules.items() if isinstance(module, torch.nn.Embedding)} | _output_of(model)
    return {name: main if name in stay or first.startswith(f"{name}.") else place for name, place in places.items()}


def _output_of(model: Any) -> set[str]:
    """The output layer, which may share its weights with the first."""
    output = model.get_output_embeddings()
    return {name for name, module in model.named_modules() if module is output and output is not None}
