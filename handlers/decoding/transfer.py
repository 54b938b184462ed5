"""Small numbers on their way to the device and back, such that neither waits for the other.

On a GPU a copy from or to ordinary memory makes Python wait until everything queued before it is done; pinned memory does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def place(values: Sequence[Any], device: Any, dtype: Any = None) -> Tensor:
    """Numbers, or rows of numbers, as a tensor on the device; int64 or float32 unless told otherwise."""
    import torch

    if device.type == "cuda":
        return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)
    return torch.tensor(values, dtype=dtype, device=device)


class Arriving:
    """A tensor's numbers, on their way to the host since this was made."""

    def __init__(self, values: Tensor) -> None:
        import torch

        self._values = values
        self._event: Any = None
        if values.device.type == "cuda":
            self._values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(values.device))

    def read(self) -> list[Any]:
        """The numbers, once they are there."""
        if self._event is not None:
            self._event.synchronize()
        found: list[Any] = self._values.tolist()
        return found
