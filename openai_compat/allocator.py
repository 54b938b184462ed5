"""What torch's memory allocator is told, before torch is imported: not to fragment a GPU's memory.

The setting has two names: torch knows the older one everywhere, and prefers the newer one since 2.9.
"""

from __future__ import annotations

from collections.abc import Mapping

NEW, OLD = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
USUAL = "expandable_segments:True"


def allocator_settings(*environments: Mapping[str, str]) -> dict[str, str]:
    """Both names, as the first of ``environments`` says that has one of them; what it says under one holds for the other."""
    for environment in environments:
        told = {name: environment[name] for name in (NEW, OLD) if name in environment}
        if told:
            return dict.fromkeys((NEW, OLD), next(iter(told.values()))) | told
    return dict.fromkeys((NEW, OLD), USUAL)
