"""Handlers of the tiny models that see, and something to look at."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.deferred import complete
from handlers.vision import VisionHandler


def noise(width: int = 97, height: int = 61, seed: int = 0) -> t.Picture:
    """A picture with something everywhere, in blocks, so that shrinking leaves something too."""
    blocks = random.Random(seed)
    colors = [[bytes(blocks.randrange(256) for _ in range(3)) for _ in range(width // 8 + 1)] for _ in range(height // 8 + 1)]
    pixels = b"".join(colors[y // 8][x // 8] for y in range(height) for x in range(width))
    return t.Picture(width=width, height=height, pixels=pixels)


def load(folder: Path, **changes: Any) -> VisionHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="vision", **{"device": "cpu", "threads": 1, **changes})
    handler = VisionHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


class Looker:
    """A handler that is asked as the runner asks it."""

    def __init__(self, handler: VisionHandler, ctx: Callable[[], Any]) -> None:
        self.handler = handler
        self._ctx = ctx

    def __call__(self, picture: t.Picture, **fields: Any) -> Any:
        request = self.handler.apply_mode_settings(t.ImageTaskRequest(picture=picture, **fields))
        self.handler.validate_inputs(request)
        return complete(self.handler.process_image(request, self._ctx()))


@pytest.fixture
def looking(tiny_seer: Callable[[str], Path], collector: Callable[[], Any]) -> Callable[..., Looker]:
    """The tiny model of a name, loaded."""
    return lambda name, **changes: Looker(load(tiny_seer(name), **changes), collector)


@pytest.fixture(scope="session")
def picture() -> Callable[..., t.Picture]:
    return noise
