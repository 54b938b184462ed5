"""Have a GGUF file converted by a process of its own, so that the gateway and the command line never import torch."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from openai_compat.gateway.environment import worker_environment
from openai_compat.gateway.sources.download import Tell
from openai_compat.gateway.sources.types import PullFailed

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error"}


def gguf_in(path: Path) -> Path | None:
    """The GGUF file to convert: ``path`` itself, or the only one of a folder that has no safetensors.

    Raises ``PullFailed`` where a folder has several and nothing else.
    """
    if path.suffix.lower() == ".gguf":
        return path
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        raise PullFailed(f"{path.name} holds {len(found)} GGUF files; name the one to use.")
    return found[0] if found else None


def convert(source: Path, target: Path, tell: Tell) -> None:
    """Write ``source`` as a folder of safetensors, configuration and tokenizer. Raises ``PullFailed``.

    The child watches its standard input, so that it ends with this process even if that is killed.
    """
    tell(0, 0)
    command = [sys.executable, "-P", "-m", "handlers.gguf", "--watch-stdin", str(source), str(target)]
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=worker_environment(os.environ) | OFFLINE
        )
        with child:
            for line in child.stdout or ():
                tell(*msgspec.json.decode(line, type=tuple[int, int]))
        if child.returncode:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4096))
            reason = errors.read().decode(errors="replace").strip().splitlines()
            raise PullFailed(f"{source.name} cannot be converted: {reason[-1] if reason else f'exit {child.returncode}'}")
