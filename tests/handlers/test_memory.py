"""Which failures mean that there was no room."""

from __future__ import annotations

import pytest

from handlers.memory import is_out_of_memory


def test_python_s_and_torch_s_own_errors_are_known() -> None:
    import torch

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))


def test_what_torch_says_on_a_processor_is_known() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyError("memory")])
def test_other_failures_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)
