"""Which jobs run now: a few at once on each model, the others in the order in which they came."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from openai_compat.config import Jobs as Settings
from openai_compat.errors import RateLimited, ShuttingDown
from openai_compat.http.lingering import linger

logger = logging.getLogger(__name__)
Work = Callable[[], Awaitable[None]]
_RETRY_AFTER = 30.0  # seconds that a client is told to wait where too many jobs wait already


class JobQueue:
    """Belongs to one event loop. A job sees to its own failure; what it leaves is logged."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()
        self._closing = False

    def admit(self) -> None:
        """Raises ``RateLimited`` where too many jobs wait already, ``ShuttingDown`` where the server ends."""
        if self._closing:
            raise ShuttingDown("The server is shutting down.", retry_after=_RETRY_AFTER)
        if len(self._jobs) - len(self._running) >= self._settings.max_waiting:
            raise RateLimited("Too many jobs are waiting already.", retry_after=_RETRY_AFTER)

    def put(self, id: str, model_id: str, work: Work, *, at_once: int | None = None) -> None:
        """Run ``work`` when it is its turn; jobs that were kept already are taken however many there are.

        ``at_once`` of them run side by side on one model, where that is not ``per_model``.
        """
        turn = self._turns.setdefault(model_id, asyncio.Semaphore(at_once or self._settings.per_model))
        task = asyncio.get_running_loop().create_task(self._run(id, turn, work))
        self._jobs[id] = task
        task.add_done_callback(lambda _: self._jobs.pop(id, None))

    async def cancel(self, id: str) -> None:
        """Returns when nothing of it runs any more."""
        task = self._jobs.get(id)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def close(self, grace: float) -> None:
        """Begin nothing any more, let what runs end within ``grace`` seconds, and cancel the rest."""
        self._closing = True
        waiting = [task for id, task in self._jobs.items() if id not in self._running]
        running = [task for id, task in self._jobs.items() if id in self._running]
        for task in waiting:
            task.cancel()
        await linger(running, grace)
        for task in running:
            task.cancel()
        await asyncio.gather(*waiting, *running, return_exceptions=True)

    async def _run(self, id: str, turn: asyncio.Semaphore, work: Work) -> None:
        async with turn:
            self._running.add(id)
            try:
                await work()
            except Exception:
                logger.exception("the job %s was not brought to its end", id)
            finally:
                self._running.discard(id)
