"""What the families on torch share: loading from safetensors, randomness of one request, and an ear for its end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from handlers import types as t

if TYPE_CHECKING:
    import torch


def pretrained(cls: Any, path: str, spec: t.ModelSpec, *, usual_dtype: str = "float32") -> Any:
    """A model of transformers, ready to run: from safetensors alone, nothing fetched, no code of the repository."""
    from transformers.utils.logging import disable_progress_bar

    from handlers.placement import device_of, dtype_of

    disable_progress_bar()
    device = device_of(spec)
    dtype = dtype_of(spec, usual_dtype, device)
    model = cls.from_pretrained(path, dtype=dtype, local_files_only=True, use_safetensors=True)
    return model.eval().to(device)


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """The global generators are this request's while it runs, and as they were afterwards."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(secrets.randbits(63) if seed is None else seed)
        yield


@contextmanager
def watched(ctx: t.RunContext, *modules: torch.nn.Module) -> Iterator[None]:
    """Ask at each call of ``modules`` whether the answer is still wanted: once a step of what runs for long."""

    def ask(*_: Any) -> None:
        ctx.check()

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(ask).remove)
        yield


def run(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Without gradients."""
    import torch

    with torch.inference_mode():
        return function(*arguments, **named)
