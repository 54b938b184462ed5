"""What the pool needs of whoever starts workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from handlers.types import ModelSpec
from openai_compat.config import Config, Upstream
from openai_compat.gateway.replica import Replica
from openai_compat.protocol import Ready, Status


class Worker(Protocol):
    """A replica that is being started, serves, or ends."""

    @property
    def replica(self) -> Replica: ...

    @property
    def engine(self) -> Upstream | None:
        """How it is spoken to where it is an engine: as to an upstream. Its one model there is under our own id.

        It knows nothing of ``x-oc-`` headers and sends no ``Done``. None for a worker of ours.
        """

    @property
    def gone(self) -> asyncio.Event:
        """Set once nothing of it is left and its memory is given back."""

    async def ready(self) -> Ready:
        """Wait until it serves. Raises the ``Unavailable`` that kept it from it."""

    async def stop(self, grace: float) -> None:
        """End it, by force after ``grace`` seconds, and return once it is gone."""

    def kill(self) -> None:
        """End it at once."""


class Launcher(Protocol):
    """Where a pool gets its workers from."""

    async def start(self) -> None: ...

    async def launch(
        self, model_id: str, spec: ModelSpec, environment: Mapping[str, str], listener: Callable[[Status], None]
    ) -> Worker:
        """A worker that is not ready yet; ``listener`` hears each of its status messages. Raises ``Unavailable``."""

    def renew(self, config: Config) -> None:
        """What is launched from now on is launched as ``config`` has it."""

    async def close(self) -> None:
        """End everything that is left."""
