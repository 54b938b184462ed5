"""What is known of an engine without starting it: what its settings say, and what files it names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from handlers.types import VERBS, Analysis
from openai_compat.config import Model

KIND = "command"
_WEIGHTS = (".bin", ".gguf", ".onnx", ".pt", ".safetensors")


def has_program(model: Model) -> bool:
    """Whether this machine has the program that the command begins with."""
    return shutil.which(model.command[0], path=model.environment.get("PATH") or os.environ.get("PATH")) is not None


def analyze_engine(model: Model) -> Analysis:
    """What it can do is as configured. It has no modes: those are our handlers' business."""
    return Analysis(
        architecture=KIND,
        parameters=0,
        dtype="",
        bytes_per_dtype={},
        load_bytes=sum(_sizes(model)),
        context_length=model.engine.context_length or model.context_length,
        capabilities=tuple(verb for verb in VERBS if verb in model.engine.capabilities),
        weight_format="",
    )


def _sizes(model: Model) -> Iterator[int]:
    """Bytes of the weights that the command names: the least that it will take, as far as anybody can tell."""
    for file in {Path(part.partition("=")[2] or part) for part in model.command[1:] if os.sep in part}:
        if file.is_file() and file.suffix in _WEIGHTS:
            yield file.stat().st_size
        elif file.is_dir():
            yield from (found.stat().st_size for found in file.iterdir() if found.suffix in _WEIGHTS)
