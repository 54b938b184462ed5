"""ONNX files: taken, or refused by the one error, wherever their external data would lie."""

from __future__ import annotations

import tempfile
from pathlib import Path

from handlers.headers import BadHeader
from openai_compat.gateway.scan.onnx import check_onnx


def fuzz(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        try:
            check_onnx(path, Path(folder))
        except BadHeader as error:
            assert folder not in str(error)
            str(error).encode()
