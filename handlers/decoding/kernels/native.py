"""The native library as Python objects. Calls release the GIL; the caller holds the tensors whose memory they use."""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_P, _I = ctypes.c_void_p, ctypes.c_int
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "pool_new": (_P, (_I,)),
    "pool_free": (None, (_P,)),
    "matrix_new": (_P, (_P, _P, _I, _I, _I)),
    "matrix_free": (None, (_P,)),
    "matrix_bytes": (ctypes.c_int64, (_P,)),
    "matrix_row": (None, (_P, _I, _P)),
    "matrix_four_bit_loss": (ctypes.c_double, (_P, _I, _I, _I)),
    "limit_read": (None, (_P, _P, ctypes.c_int64)),
    "limit_multiply": (None, (_P, ctypes.c_int64)),
    "llama_new": (_P, (_I, _I, _I, _I, _I, ctypes.c_float, _P, _P)),
    "llama_add": (None, (_P, _P)),
    "llama_run": (None, (_P, _P, _P)),
    "llama_free": (None, (_P,)),
    "linear": (None, (_P, _P, _P, _P, _I, _P, _I)),
}


class Kernels:
    """The loaded library and the threads that its calls share; one a model, used from the model's thread only."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.calls = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.calls, name)
            function.restype, function.argtypes = result, arguments
        self._begin(threads)

    def use_threads(self, threads: int) -> None:
        self._end()
        self._begin(threads)

    def _begin(self, threads: int) -> None:
        self.threads = threads
        self.pool = self.calls.pool_new(threads)
        self._end = weakref.finalize(self, self.calls.pool_free, self.pool)

    def four_bit_loss(self, weights: Tensor, samples: int) -> float:
        """The largest share of a group's variance that 4 bits would lose; ``weights`` float32, contiguous."""
        loss: float = self.calls.matrix_four_bit_loss(weights.data_ptr(), *weights.shape, samples)
        return loss


class Matrix:
    """Weights of ``[outputs, inputs]`` packed in 8 or 4 bits."""

    def __init__(self, kernels: Kernels, weights: Tensor, bits: int) -> None:
        weights = weights.detach().float().contiguous()
        self.outputs, self.inputs = weights.shape
        self.bits = bits
        self.kernels = kernels
        self.handle = kernels.calls.matrix_new(kernels.pool, weights.data_ptr(), self.outputs, self.inputs, bits)
        weakref.finalize(self, kernels.calls.matrix_free, self.handle)

    @property
    def nbytes(self) -> int:
        size: int = self.kernels.calls.matrix_bytes(self.handle)
        return size

    def dense(self) -> Tensor:
        """The weights as the kernels see them, in float32."""
        import torch

        rows = torch.empty(self.outputs, self.inputs)
        for i, row in enumerate(rows):
            self.kernels.calls.matrix_row(self.handle, i, row.data_ptr())
        return rows

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x @ weights.T + bias`` in the type of ``x``; ``bias`` in float32. A row's result depends on no other row."""
        import torch

        if x.dtype not in (torch.float32, torch.bfloat16):
            return self.multiply(x.float(), bias).to(x.dtype)
        x = x.contiguous()
        y = torch.empty(*x.shape[:-1], self.outputs, dtype=x.dtype)
        self.kernels.calls.linear(
            self.kernels.pool,
            self.handle,
            x.data_ptr(),
            y.data_ptr(),
            x.numel() // self.inputs,
            None if bias is None else bias.data_ptr(),
            x.dtype == torch.bfloat16,
        )
        return y
