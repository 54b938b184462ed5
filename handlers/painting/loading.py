"""A pipeline from a local folder: safetensors alone, nothing fetched, no code of the repository, nothing that it points to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers import types as t
from handlers.loading import load_errors, options_of
from handlers.painting.estimate import needs_of
from handlers.painting.families import filmers_of, pipeline_class
from handlers.painting.layout import Weights, read_index, read_weights, stored_dtype, variant_of
from handlers.painting.memory import Placement, plan_for
from handlers.painting.options import Options
from handlers.painting.quantize import check_backend, loading_config, store_small
from handlers.painting.studio import Studio
from handlers.placement import device_of, dtype_of, set_threads

if TYPE_CHECKING:
    import torch


def load_studio(spec: t.ModelSpec, report: t.LoadReport) -> Studio:
    """Raises ``ModelUnavailable`` with a reason a client may read."""
    options = options_of(spec, Options)
    root = Path(spec.path)
    weights = read_weights(root)
    device = device_of(spec)
    dtype = load_dtype(spec, weights, device)
    check_backend(options.quantization)
    report("reading the weights", 0, sum(tensor.size for part in weights for tensor in part.tensors))
    with load_errors(spec):
        pipeline = _read(spec, options, dtype)
    report("placing the weights")
    films = filmers_of(pipeline_class(spec.path)) is not None
    needs = needs_of(root, weights, str(dtype).removeprefix("torch."), options, video=films)
    with load_errors(spec):
        store_small(pipeline, options.quantization, dtype)
        placement = Placement(pipeline, device, plan_for(needs, device, options))
    report("measuring threads")
    set_threads(spec, _convolution())
    return Studio(pipeline, spec, options, placement)


def load_dtype(spec: t.ModelSpec, weights: tuple[Weights, ...], device: torch.device) -> torch.dtype:
    """The file's own, but float32 on a processor: diffusers' networks gain nothing there from a half type."""
    auto = spec.dtype == "auto" and device.type == "cpu"
    return dtype_of(spec, "float32" if auto else stored_dtype(weights), device)


def _read(spec: t.ModelSpec, options: Options, dtype: torch.dtype) -> Any:
    import diffusers
    from diffusers.utils.logging import disable_progress_bar
    from transformers.utils.logging import disable_progress_bar as disable_other_progress_bar

    disable_progress_bar()
    disable_other_progress_bar()
    root = Path(spec.path)
    name, components = read_index(root)
    pipeline = _unconnected(getattr(diffusers, name)).from_pretrained(
        spec.path,
        dtype=dtype,
        variant=variant_of(root, components),
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        quantization_config=loading_config(options.quantization, components),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _unconnected(cls: Any) -> Any:
    """Some pipelines load others that a model card names, from wherever it says; their parts have to be in this folder."""
    if not cls._load_connected_pipes:
        return cls
    return type(cls.__name__, (cls,), {"_load_connected_pipes": False, "__module__": cls.__module__})


def _convolution() -> Any:
    """What denoisers and decoders spend their time on, in a usual size."""
    import torch

    picture, kernel = torch.zeros(1, 128, 64, 64), torch.zeros(128, 128, 3, 3)

    def step() -> None:
        with torch.inference_mode():
            torch.nn.functional.conv2d(picture, kernel, padding=1)

    return step
