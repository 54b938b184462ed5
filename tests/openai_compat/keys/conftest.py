"""A server's file of keys, looked at from two processes' sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from openai_compat.config import Auth, Config, Storage
from openai_compat.grants import Grant
from openai_compat.keys.file import KeyFile, key_path
from openai_compat.keys.keeper import KeyKeeper
from openai_compat.keys.ring import Ring
from openai_compat.keys.secret import digest_of

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


class Clock:
    """Unix seconds, as a test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """``ring`` is a server's, ``keeper`` another process's on the same file."""

    def __init__(self, folder: Path, *, keys: tuple[str, ...] = (), interval: float = 0.01) -> None:
        self.config = Config(storage=Storage(dir=str(folder / "kept")), auth=Auth(keys=keys))
        self.clock = Clock()
        self.path = key_path(self.config)
        self.ring = Ring(self.config, clock=self.clock, interval=interval)
        self.file = KeyFile(self.path)
        self.keeper = KeyKeeper(self.file, clock=self.clock)

    def find(self, secret: str) -> Grant | None:
        return self.ring.find(digest_of(secret.encode()))

    async def becomes(self, wanted: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not wanted():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.ring.close()
        await self.file.close()


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., None]:
    """``bench(scenario)`` runs ``scenario(bench)`` with a ring that has been started."""

    def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]], *, started: bool = True, **settings: Any) -> None:
        async def whole() -> None:
            made = Bench(tmp_path, **settings)
            try:
                if started:
                    await made.ring.start()
                await scenario(made)
            finally:
                await made.close()

        asyncio.run(whole())

    return run
