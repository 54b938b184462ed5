"""One model's place in the pool, and the leases on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from handlers.types import ModelSpec
from openai_compat.config import Model, Upstream, Workers
from openai_compat.errors import APIError, ModelUnavailable
from openai_compat.gateway.launcher import Worker
from openai_compat.gateway.metering.cost import Counts
from openai_compat.gateway.metering.tally import OnUsage
from openai_compat.gateway.replica import Replica
from openai_compat.protocol import Done, Heartbeat, Progress
from openai_compat.sizes import format_size

logger = logging.getLogger(__name__)
# Heartbeats without a request in them after which it is over though nobody said so: the first may have been under way already.
_MISSES = 2
_DEATH = 1.0  # seconds that a process takes to be gone
_LAST_WORDS = 0.02  # seconds in which what it said before is heard
# Seconds for which a worker may go on with what nobody waits for: more than a step of the slowest model takes.
HUNG = 300.0


class Phase(StrEnum):
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


class ModelState(Struct, frozen=True, kw_only=True):
    """How a model stands. ``memory`` is bytes reserved by account (``host``, ``cuda:0`` …); ``done`` and ``total`` are bytes.

    ``active`` are requests being answered, ``waiting`` those that wait for the model.
    """

    model_id: str
    state: str
    stage: str = ""
    done: int = 0
    total: int = 0
    memory: dict[str, int] = {}
    device: str = ""
    active: int = 0
    waiting: int = 0
    error: str | None = None


class Keeper(Protocol):
    """Whoever must know that a lease is over, or that its replica cannot be reached."""

    def lease_ended(self, lease: Lease, served: bool) -> None: ...

    def replica_lost(self, slot: Slot) -> None: ...

    def replica_suspected(self, slot: Slot) -> None: ...


class Lease:
    """The right to send one request to a replica, and the duty not to stop it meanwhile.

    It lasts until the consumer has left *and* the worker has nothing of the request any more. Used as a context manager it
    is left at the end of the block.

    Attributes:
        on_usage: called once, with the tokens that the worker has counted as soon as it says so, or with None where the lease
            ends without.
        begun: whether the model has been given the request.
    """

    def __init__(self, slot: Slot, worker: Worker, request_id: str, keeper: Keeper) -> None:
        self.slot = slot
        self.worker = worker
        self.request_id = request_id
        self.on_usage: OnUsage | None = None
        self.begun = False
        self._keeper = keeper
        self._left = False
        self._left_at = 0.0
        self._done = worker.engine is not None  # nobody says when an engine has done: it is when the exchange ends
        self._over = False
        self._misses = 0

    @property
    def replica(self) -> Replica:
        return self.worker.replica

    @property
    def engine(self) -> Upstream | None:
        """What to speak to in the place of ``replica``, where there is one."""
        return self.worker.engine

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """The consumer wants nothing more of it."""
        self._left = True
        self._left_at = asyncio.get_running_loop().time()
        self._settle(served=True)

    def abandon(self) -> None:
        """The request was never sent, so the worker will never say that it is done."""
        self._left = self._done = True
        self._settle(served=False)

    def discard(self) -> None:
        """The replica could not be reached at all."""
        self._keeper.replica_lost(self.slot)
        self.abandon()

    def suspect(self) -> None:
        """The replica broke off an answer, as it does when it dies."""
        self._keeper.replica_suspected(self.slot)

    async def spared(self) -> bool:
        """Whether the worker that broke off is dead, and not of this request: its model had not been given it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.worker.gone.wait(), _DEATH)
            await asyncio.sleep(_LAST_WORDS)
        return self.worker.gone.is_set() and not self.begun

    def done(self, message: Done) -> None:
        """The worker has nothing of the request any more."""
        self._tell(Counts(message.prompt, message.completion, message.cached))
        self._done = True
        self._settle(served=True)

    def died(self) -> None:
        """The worker is gone."""
        self._left = self._done = True
        self._settle(served=False)

    def missed(self) -> None:
        """A heartbeat came without this request among the running ones."""
        if self._left:
            self._misses += 1
            self._done = self._misses >= _MISSES
            self._settle(served=True)

    def running(self) -> None:
        """A heartbeat came with this request among the running ones. One that cannot be stopped holds up all others."""
        if self._left and asyncio.get_running_loop().time() - self._left_at > HUNG:
            logger.error("the worker of %s is ended: it does not let go of a request", self.slot.model_id)
            self._keeper.replica_lost(self.slot)

    def _settle(self, served: bool) -> None:
        if self._left and self._done and not self._over:
            self._over = True
            self._tell(None)
            self._keeper.lease_ended(self, served)

    def _tell(self, counts: Counts | None) -> None:
        on_usage, self.on_usage = self.on_usage, None
        if on_usage is not None:
            on_usage(counts)


class Waiter(Struct, frozen=True, eq=False):
    """Somebody who waits for a model."""

    request_id: str
    lease: asyncio.Future[Lease]

    @property
    def granted(self) -> bool:
        """Whether a lease was given, which somebody must then end."""
        return self.lease.done() and not self.lease.cancelled() and self.lease.exception() is None


class Slot:
    """What the pool keeps of one model. It is changed by the pool only, on the event loop."""

    def __init__(self, model_id: str, settings: Model) -> None:
        self.model_id = model_id
        self.owner = model_id  # of the memory that it holds
        self.settings = settings
        self.phase = Phase.UNLOADED
        self.worker: Worker | None = None
        self.spec: ModelSpec | None = None
        self.estimate = 0
        self.floor = 0
        self.device = ""
        self.progress = Progress("")
        self.leases: dict[str, Lease] = {}
        self.waiters: list[Waiter] = []
        self.draining = False
        self.suspected = False
        self.retiring = False
        self.stopping = False
        self.leaving = False  # a new configuration has no use for it, or another slot for its model
        self.last_used = 0.0
        self.failures = 0
        self.retry_at = 0.0
        self.error: str | None = None
        self.was_ready = False
        self.idle_timer: asyncio.TimerHandle | None = None
        self.retry: asyncio.TimerHandle | None = None

    @property
    def serves(self) -> bool:
        """Whether a new request may go to it now."""
        return self.phase is Phase.READY and not (self.draining or self.suspected or self.retiring)

    @property
    def evictable(self) -> bool:
        return self.phase is Phase.READY and (self.finite or not self.settings.pin)

    @property
    def finite(self) -> bool:
        """Whether it ends as soon as nobody uses it."""
        return self.retiring or self.leaving

    @property
    def over(self) -> str:
        """Why it ends where nobody asked for its room."""
        if self.leaving:
            return "the configuration has changed"
        return "its memory ran out" if self.retiring else f"it was not used for {self.settings.idle_timeout:.0f} s"

    def grant(self, worker: Worker, request_id: str, keeper: Keeper) -> Lease:
        """A lease under ``request_id``, made unique: clients may use one id for several requests at once."""
        unique, number = request_id, 1
        while unique in self.leases:
            number += 1
            unique = f"{request_id}.{number}"
        lease = self.leases[unique] = Lease(self, worker, unique, keeper)
        self.stop_timer()
        return lease

    def heartbeat(self, message: Heartbeat) -> None:
        active = frozenset(message.active)
        for request_id, lease in tuple(self.leases.items()):
            if request_id in active:
                lease.running()
            else:
                lease.missed()

    def refuse(self, error: APIError) -> None:
        """Tell everyone who waits."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.lease.done():
                waiter.lease.set_exception(error)

    def reason(self, error: Exception) -> APIError:
        """Why it was not loaded, as a client may read it."""
        if isinstance(error, APIError):
            return error
        if isinstance(error, TimeoutError):
            return ModelUnavailable(f"The model '{self.model_id}' took longer than {self.settings.max_load_time:g} s to load.")
        logger.error("%s could not be started", self.model_id, exc_info=error)
        return ModelUnavailable(f"The model '{self.model_id}' could not be started.")

    def start_timer(self, expired: Callable[[Slot], None]) -> None:
        """Count the time that it is idle from now on, unless it is to stay; one that is to go has none."""
        self.stop_timer()
        if self.finite or not self.settings.pin:
            seconds = 0 if self.finite else self.settings.idle_timeout
            self.idle_timer = asyncio.get_running_loop().call_later(seconds, expired, self)

    def stop_timer(self) -> None:
        if self.idle_timer is not None:
            self.idle_timer.cancel()
            self.idle_timer = None

    def stop_timers(self) -> None:
        """The server ends: nothing more may begin by itself."""
        self.stop_timer()
        if self.retry is not None:
            self.retry.cancel()

    def forgive(self) -> None:
        """Whoever wrote a new configuration may have mended what was wrong."""
        self.failures, self.retry_at = 0, 0.0

    def back_off(self, failures: int, workers: Workers) -> float:
        """Let no new attempt begin for a while; returns the seconds, which double with each failure."""
        pause: float = min(workers.restart_backoff * 2 ** min(failures - 1, 30), workers.restart_backoff_max)
        self.retry_at = asyncio.get_running_loop().time() + pause
        return pause

    def advance(self, progress: Progress) -> None:
        """Take note of how far the load is; a new stage, and each quarter of one, is a line in the log."""
        if (progress.stage, _quarter(progress)) != (self.progress.stage, _quarter(self.progress)):
            far = f", {format_size(progress.done)} of {format_size(progress.total)}" if progress.total else ""
            logger.info("%s: %s%s", self.model_id, progress.stage, far)
        self.progress = progress

    def state(self, memory: dict[str, int]) -> ModelState:
        return ModelState(
            model_id=self.model_id,
            state=self.phase.value,
            stage=self.progress.stage,
            done=self.progress.done,
            total=self.progress.total,
            memory=memory,
            device=self.device,
            active=len(self.leases),
            waiting=len(self.waiters),
            error=self.error,
        )


def _quarter(progress: Progress) -> int:
    return 4 * progress.done // progress.total if progress.total else 0
