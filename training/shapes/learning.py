"""What the trainings have in common: one seed, a rate that rises and falls, averaged weights, and lines for the log."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.shapes.data import Picture

LOG = Path(__file__).with_name("log.txt")


class Log:
    """Lines for the screen and for the file that is committed with the weights."""

    def __init__(self, path: Path = LOG) -> None:
        self._path = path
        self._began = time.monotonic()

    def __call__(self, line: str) -> None:
        stamped = f"{time.monotonic() - self._began:7.0f} s  {line}"
        print(stamped, flush=True)
        with self._path.open("a") as file:
            file.write(stamped + "\n")


class Average:
    """A copy of a model whose weights follow the trained ones slowly; it is what gets saved."""

    def __init__(self, model: Any, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay = decay
        self._steps = 0

    def follow(self, model: Any) -> None:
        import torch

        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 10))
        with torch.no_grad():
            for kept, new in zip(self.model.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
            for kept, new in zip(self.model.buffers(), model.buffers(), strict=True):
                kept.copy_(new)


def rate(step: int, steps: int, warm_up: int = 100) -> float:
    """Of the highest learning rate: up in a straight line, down along a half cosine."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))


def descend(
    parameters: Iterable[Any], steps: int, learning_rate: float, loss_of: Callable[[], Any], log: Log, name: str
) -> Iterator[int]:
    """Take ``steps`` steps of AdamW along ``loss_of``; gives each step's number when it is done."""
    import torch

    weights = list(parameters)
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    recent = 0.0
    for step in range(1, steps + 1):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        recent += float(loss.detach())
        if step % 250 == 0:
            log(f"{name}: step {step} of {steps}, loss {recent / 250:.4f}")
            recent = 0.0
        yield step


def floats(pictures: Any) -> Any:
    """8-bit pictures as the models take them: from -1 to 1."""
    return pictures.float() / 127.5 - 1


def as_batch(pictures: list[Picture]) -> Any:
    """Pictures as one tensor of floats, channels first."""
    import torch

    return floats(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


def count(model: Any) -> int:
    """The number of parameters."""
    return sum(weight.numel() for weight in model.parameters())
