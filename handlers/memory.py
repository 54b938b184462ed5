"""Memory that runs out, and memory that is given back."""

from __future__ import annotations

# Known by name, so that no library need be imported for it: torch's own is a class of torch.
_TYPES = frozenset({"MemoryError", "OutOfMemoryError"})
# … and what torch says as a plain RuntimeError: on a processor, on Apple's GPUs, and where a library of CUDA's has no room.
_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failure, of whatever library, means that there was no room."""
    if _TYPES & {cls.__name__ for cls in type(error).__mro__}:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
