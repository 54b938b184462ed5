"""A GPU that a process has lost."""

from __future__ import annotations

# Known by name, so that no library need be imported for it.
_TYPE = "AcceleratorError"
_WORDS = ("CUDA error", "HIP error")


def is_lost(error: BaseException) -> bool:
    """Whether a failure means that this process may never use its GPU again: what follows an assertion or a wrong address
    there fails too, whatever it is, until the process ends.
    """
    if _TYPE in {cls.__name__ for cls in type(error).__mro__}:
        return True
    return isinstance(error, RuntimeError) and str(error).startswith(_WORDS)
