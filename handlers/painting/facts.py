"""What a pipeline's files tell without loading it. Imports no heavy library."""

from __future__ import annotations

import re
from pathlib import Path

from handlers import types as t
from handlers.analyze import DTYPE_BYTES, MAX_TOTAL, RUNTIME_BYTES
from handlers.loading import options_of
from handlers.painting.estimate import needs_of
from handlers.painting.families import filmers_of, verbs_of
from handlers.painting.layout import read_index, read_weights, stored_dtype
from handlers.painting.options import Options

USUAL = ("torch>=2.6", "diffusers>=0.42", "transformers>=5.3", "accelerate>=1.10", "safetensors>=0.6", "pillow>=12.3")
QUANTIZED = "torchao>=0.15"
_PROCESSOR = re.compile(r"auto|cpu(:\d+)?")


def analyze(spec: t.ModelSpec, modes: tuple[str, ...]) -> t.Analysis:
    """Raises ``ModelUnavailable`` where the files are missing or lie."""
    root = Path(spec.path)
    name, _ = read_index(root)
    weights = read_weights(root)
    stored = stored_dtype(weights)
    parameters = min(sum(part.elements for part in weights), MAX_TOTAL)
    needs = needs_of(root, weights, _loaded_dtype(spec, stored), options_of(spec, Options), video=filmers_of(name) is not None)
    return t.Analysis(
        architecture=name,
        parameters=parameters,
        dtype=stored,
        bytes_per_dtype={dtype: min(parameters * size, MAX_TOTAL) for dtype, size in DTYPE_BYTES.items()},
        load_bytes=min(needs.total + RUNTIME_BYTES, MAX_TOTAL),
        capabilities=tuple(verb for verb in t.VERBS if verb in verbs_of(name)),
        modes=modes,
        dependencies=dependencies(spec),
    )


def dependencies(spec: t.ModelSpec) -> tuple[str, ...]:
    return (*USUAL, QUANTIZED) if spec.options.get("quantization") == "int8" else USUAL


def _loaded_dtype(spec: t.ModelSpec, stored: str) -> str:
    """Off a GPU everything is widened; a device that is not known yet is thought to be a processor, which needs the most."""
    if spec.dtype != "auto":
        return spec.dtype
    return "float32" if _PROCESSOR.fullmatch(spec.device) else stored
