"""Headers of gguf files: facts that fit the file, or the one error."""

from __future__ import annotations

import tempfile
from pathlib import Path

from handlers.headers import BadHeader
from handlers.headers_gguf import read_gguf


def fuzz(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.gguf")
        path.write_bytes(data)
        try:
            header = read_gguf(path)
        except BadHeader as error:
            assert folder not in str(error)
            return
    assert sum(tensor.size for tensor in header.tensors) <= MOST * len(data)
    assert all(tensor.elements >= 0 and tensor.size >= 0 for tensor in header.tensors)
    assert len({tensor.name for tensor in header.tensors}) == len(header.tensors)
    str(header).encode()


MOST = 1
"""Tensors never share bytes, so all of them together are no larger than the file."""
