"""Loading a vision model of transformers from a local snapshot: safetensors only, no code of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handlers import offload, placement, quantization
from handlers import types as t
from handlers.loading import load_errors
from openai_compat.errors import ModelUnavailable

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def load(spec: t.ModelSpec, auto_class: str, report: t.LoadReport) -> Any:
    """The model by the class of transformers called ``auto_class``, on its device. Raises ``ModelUnavailable``."""
    import transformers
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()
    with load_errors(spec):
        config = transformers.AutoConfig.from_pretrained(spec.path, **_LOCAL)
        device = placement.device_of(spec)
        dtype = _dtype(spec, config, device)
        cls = getattr(transformers, auto_class)
        smaller = quantization.wanted(spec)
        places = {"device_map": {"": "cpu"}} if smaller else offload.arguments(spec, cls, config, device, dtype)
        size = sum(file.stat().st_size for file in Path(spec.path).glob("*.safetensors"))
        report("placing the weights", 0, size)
        model, info = cls.from_pretrained(
            spec.path, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **places, **_LOCAL
        )
        offload.tidy(model, places)
        if info["missing_keys"] or info["mismatched_keys"]:
            raise ModelUnavailable(f"Weights of '{spec.id}' are missing or have the wrong shape.")
        report("placing the weights", size, size)
        placement.use_threads(spec)
        return quantization.shrink(model, device).eval() if smaller else model.eval()


def part(spec: t.ModelSpec, auto_class: str) -> Any:
    """An image processor, tokenizer, or both as one. Raises ``ModelUnavailable``."""
    import transformers

    with load_errors(spec):
        return getattr(transformers, auto_class).from_pretrained(spec.path, **_LOCAL)


def _dtype(spec: t.ModelSpec, config: Any, device: Any) -> Any:
    """On a processor float32 unless told otherwise: eight bits of bfloat16 put an edge some pixels off in a large picture."""
    import torch

    if spec.dtype == "auto" and device.type == "cpu":
        return torch.float32
    return placement.dtype_of(spec, str(config.dtype or "float32").removeprefix("torch."), device)
