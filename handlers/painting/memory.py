"""Where a pipeline's weights stay while they are not needed, and computing in smaller pieces: less memory for more time.

What diffusers and accelerate call an execution device may be the processor, so that each setting runs without a GPU; there
only ``disk`` and the slicing save anything.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.painting.estimate import Needs, Plan, recommend
from handlers.painting.options import Options

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def free_bytes(device: torch.device) -> int:
    """What can be had on a device now."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def plan_for(needs: Needs, device: torch.device, options: Options) -> Plan:
    """What the operator set, and for the rest what fits."""
    free = free_bytes(device)
    usual = recommend(needs, free, accelerator=device.type == "cuda", pictures=options.max_batch)
    return Plan(
        attention_slicing=_either(options.attention_slicing, usual.attention_slicing),
        vae_slicing=_either(options.vae_slicing, usual.vae_slicing),
        vae_tiling=_either(options.vae_tiling, usual.vae_tiling),
        offload=usual.offload if options.offload == "auto" else options.offload,
    )


class Placement:
    """A pipeline's place. Files that it needs on a disk are there as long as this object is."""

    def __init__(self, pipeline: Any, device: torch.device, plan: Plan) -> None:
        self.plan = plan
        _slice(pipeline, plan)
        if plan.offload in ("none", "auto"):
            pipeline.to(device)
        elif plan.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif plan.offload == "sequential":
            _layer_by_layer(pipeline, device)
        elif plan.offload == "group":
            pipeline.enable_group_offload(device, offload_type="leaf_level")
        else:
            folder = Path(tempfile.mkdtemp(prefix="weights-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            _to_disk(pipeline, device, folder)
        logger.info("memory of the pipeline: %s", plan)

    def computing(self) -> Any:
        """What a call runs in; accelerate's hooks cannot swap weights that were made for inference alone."""
        import torch

        return torch.inference_mode() if self.plan.offload == "none" else torch.no_grad()


def _either(told: bool | None, usual: bool) -> bool:
    return usual if told is None else told


def _slice(pipeline: Any, plan: Plan) -> None:
    """Decoders without a way to do it in pieces stay as they are."""
    decoder: Any = getattr(pipeline, "vae", None)
    if plan.attention_slicing:
        pipeline.enable_attention_slicing()
    if plan.vae_slicing and hasattr(decoder, "enable_slicing"):
        decoder.enable_slicing()
    if plan.vae_tiling and hasattr(decoder, "enable_tiling"):
        decoder.enable_tiling()


def _layer_by_layer(pipeline: Any, device: torch.device) -> None:
    """Where weights and work share a memory, accelerate takes the one for the other unless each has its own copy."""
    import torch
    from accelerate import cpu_offload

    if device.type != "cpu":
        pipeline.enable_sequential_cpu_offload(device=device)
        return
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            copies = {name: tensor.clone() for name, tensor in part.state_dict().items()}
            cpu_offload(part, device, offload_buffers=bool(part._parameters), state_dict=copies)


def _to_disk(pipeline: Any, device: torch.device, folder: Path) -> None:
    """Each layer's weights are read as it runs."""
    import torch
    from accelerate import disk_offload

    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            disk_offload(part, str(folder / name), execution_device=device, offload_buffers=bool(part._parameters))
