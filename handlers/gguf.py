"""Convert a GGUF file once into a folder of safetensors, configuration and tokenizer: loading that takes 0.2 s, and not 20.

``python -P -m handlers.gguf SRC DST`` prints ``[done, total]`` lines, bytes of weights written, and fails with one line that
says why. ``DST`` appears only when it is whole.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handlers.headers import Header
from handlers.headers_gguf import read_gguf
from openai_compat.errors import ModelUnavailable

DTYPE = "bfloat16"
DTYPE_BYTES = 2
PARENT_GONE = 3
# what lies beside the file has not been scanned, and is asked for nothing
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

Tell = Callable[[int, int], None]


def convert(source: Path, target: Path, tell: Tell) -> None:
    """Convert ``source`` to the new folder ``target``, which is there only when it is whole. Raises ``ModelUnavailable``."""
    header = read_gguf(source)
    total = sum(tensor.elements for tensor in header.tensors) * DTYPE_BYTES
    tell(0, total)
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=target.parent) as name:
        folder = Path(name) / "model"
        _save(source, header, folder)
        folder.rename(target)
    tell(total, total)


def _save(source: Path, header: Header, folder: Path) -> None:
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = _dequantized(source)
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name, **LOCAL)
    except (ValueError, KeyError, NotImplementedError, ImportError, OSError) as error:
        architecture = header.metadata.get("general.architecture", "unknown")
        raise ModelUnavailable(f"{source.name}: the GGUF architecture '{architecture}' cannot be read ({error})") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _dequantized(source: Path) -> Any:
    """The model in bfloat16. What is left of the quantizer has to go, or ``save_pretrained`` raises."""
    from transformers import AutoModelForCausalLM, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        str(source.parent), gguf_file=source.name, dtype=DTYPE, quantization_config=GgufConfig(dequantize=True), **LOCAL
    )
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _end_with_parent() -> None:
    """End this process when standard input does, which is when the parent is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(PARENT_GONE)

    threading.Thread(target=watch, daemon=True).start()


def _print_line(done: int, total: int) -> None:
    sys.stdout.write(json.dumps([done, total]) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="handlers.gguf", description="Convert a GGUF file to a safetensors folder.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    if options.watch_stdin:
        _end_with_parent()
    try:
        convert(options.source.absolute(), options.target.absolute(), _print_line)
    except ModelUnavailable as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
