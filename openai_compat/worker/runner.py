"""The one bridge between the sync world of handlers and the async world of routes: a queue and a thread for one model.

The thread goes round: it admits queued jobs by calling their verbs, and while results are deferred it steps what drives them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property, partial
from typing import TypeAlias, TypeVar, cast

from handlers.base import BaseHandler
from handlers.deferred import Deferred, Driver
from handlers.devices import is_lost
from handlers.memory import is_out_of_memory
from handlers.types import Request, Result, Usage, Verb
from openai_compat.errors import APIError, DeadlineExceeded, RateLimited, ShuttingDown
from openai_compat.worker.admission import Admission
from openai_compat.worker.foreign import foreign
from openai_compat.worker.held import media_bytes
from openai_compat.worker.job import Bridge, Job
from openai_compat.worker.leftovers import Leftovers
from openai_compat.worker.waiting import BESIDE, Item, Waiting

logger = logging.getLogger(__name__)

T = TypeVar("T")
JOIN_SECONDS = 5.0
MAX_MEDIA = 1 << 30
MAX_WAIT = 60.0
Pending: TypeAlias = tuple[Job, Deferred[Result]]


class Runner:
    """Runs one handler on one thread: one request after the other, or together those whose verb returns a ``Deferred``.

    ``submit``, ``cancel`` and ``close`` belong to the event loop, where ``on_done`` is called too: exactly once a job, when
    neither the queue nor the thread has anything of it.

    Args:
        handler: the model; already loaded, or loaded through ``call``.
        on_done: gets the job's request id.
        on_begun: gets it too, on the model's thread, before the model is given the job.
        on_usage: gets the job's request id and what was computed for it, before ``on_done`` is called.
        on_exhausted: called once, on the event loop, when a job ran out of memory or lost the GPU, before that job is told:
            what libraries leave behind then is known to nobody, so the process should take nothing more and end when it has
            answered.
        max_waiting: jobs that may wait for the thread; further ones are refused.
        max_wait: seconds that a burst of jobs may wait; see ``Admission``.
        max_media: bytes of samples and pixels that all jobs together may hold; a job that would be the only one may hold more.
        max_running: jobs whose results may be deferred at the same time.
        retry_after: seconds that a refused client is told to wait.
    """

    def __init__(
        self,
        handler: BaseHandler,
        *,
        on_done: Callable[[str], None] | None = None,
        on_begun: Callable[[str], None] | None = None,
        on_usage: Callable[[str, Usage], None] | None = None,
        on_exhausted: Callable[[], None] | None = None,
        max_waiting: int = 256,
        max_wait: float = MAX_WAIT,
        max_media: int = MAX_MEDIA,
        max_running: int = 64,
        retry_after: float = 1.0,
    ) -> None:
        self.handler = handler
        self.on_done = on_done
        self.on_begun = on_begun
        self.on_usage = on_usage
        self.on_exhausted = on_exhausted
        self._admission = Admission(max_wait, max_waiting, retry_after)
        self._max_media = max_media
        self._max_running = self._at_once = max_running
        self._retry_after = retry_after
        self._waiting = Waiting()
        self._running: list[Pending] = []
        self._leftovers = Leftovers()
        self._closing = False
        self._jobs: dict[Job, asyncio.TimerHandle] = {}
        self._moved: float | None = None
        self._bridge: Bridge | None = None
        self._idle = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ the event loop

    @cached_property
    def capabilities(self) -> frozenset[Verb]:
        """The verbs that the model supports."""
        return type(self.handler).get_model_capabilities(self.handler.spec)

    @property
    def active(self) -> tuple[str, ...]:
        """Request ids of the jobs that wait or run, each once."""
        return tuple(dict.fromkeys(job.request_id for job in self._jobs))

    @property
    def stalled(self) -> float:
        """Seconds since the model's thread began with something, or showed that it gets on with it; 0 where it has nothing."""
        moved, bridge = self._moved, self._bridge
        return 0.0 if moved is None or bridge is None else time.monotonic() - max(moved, bridge.moved)

    def admit(self, patience: float) -> None:
        """Refuse what would wait too long before anything is done for it; it lasts ``patience`` seconds at most.

        Raises:
            ShuttingDown: the worker accepts nothing any more.
            RateLimited: too many jobs wait already.
        """
        if self._closing:
            raise ShuttingDown("The model is being stopped.", retry_after=self._retry_after)
        self._admission.check(self._jobs, patience)

    def submit(self, verb: Verb, request: Request, *, request_id: str, deadline: float) -> Job:
        """Queue a request; ``deadline`` is seconds from now.

        Raises:
            ShuttingDown, RateLimited: as ``admit``, or the jobs hold too much sound and too many pictures.
        """
        self.admit(deadline)
        if not self._has_room(request):
            raise RateLimited("The model has too many requests waiting.", retry_after=self._retry_after)
        loop = asyncio.get_running_loop()
        if self._bridge is None or self._bridge.loop is not loop:
            self._bridge = Bridge(loop)
        job = Job(verb, request, request_id, self._bridge, self._abandon)
        late = DeadlineExceeded(f"The request took longer than {deadline:g} seconds.")
        self._jobs[job] = loop.call_later(max(0.0, deadline), job.cancel, late)
        self._waiting.put(job)
        return job

    def cancel(self, request_id: str, reason: APIError | None = None) -> None:
        """Cancel every job of a request; without one nothing happens."""
        for job in [job for job in self._jobs if job.request_id == request_id]:
            job.cancel(reason)

    async def close(self, grace: float) -> None:
        """Refuse new jobs, let the others end within ``grace`` seconds, cancel the rest, and end the thread."""
        self._closing = True
        if not await self._wait_idle(grace):
            for job in list(self._jobs):
                job.cancel(ShuttingDown("The model was stopped before the answer was complete."))
            await self._wait_idle(JOIN_SECONDS)
        self._waiting.end()
        await asyncio.to_thread(self._thread.join, JOIN_SECONDS)
        if self._thread.is_alive():
            logger.error("the model's thread does not end: %s", ", ".join(self.active))

    async def _wait_idle(self, seconds: float) -> bool:
        self._idle.clear()
        if self._jobs:
            try:
                await asyncio.wait_for(self._idle.wait(), seconds)
            except TimeoutError:
                return False
        return True

    def _has_room(self, request: Request) -> bool:
        """A small upload may be half an hour of silence, which is 58 MB while it waits."""
        size = media_bytes(request)
        held = sum(media_bytes(job.request) for job in self._jobs) if size else 0
        return not held or held + size <= self._max_media

    def _abandon(self, job: Job) -> None:
        """A cancelled job that still waits never runs; one that runs reports by itself."""
        if self._waiting.drop(job):
            self._retire(job)

    def _exhausted(self) -> None:
        tell, self.on_exhausted = self.on_exhausted, None
        if tell is not None:
            tell()

    def _retire(self, job: Job) -> None:
        self._jobs.pop(job).cancel()
        if not self._jobs:
            self._idle.set()
        if self.on_usage is not None:
            self.on_usage(job.request_id, job.spent)
        if self.on_done is not None:
            self.on_done(job.request_id)

    def _finish(self, job: Job, outcome: Result | APIError) -> None:
        job.settle(outcome)
        if not isinstance(outcome, APIError):
            if job.verb not in BESIDE:
                self._admission.ended(time.monotonic() - job.began)
            job.spent = getattr(outcome, "usage", job.spent)  # findings in pictures have none
        self._retire(job)

    # ------------------------------------------------------------ any thread

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` on the model's thread (loading, self-test), in turn with the jobs."""
        future: Future[T] = Future()
        self._waiting.put(partial(_fulfil, future, function))
        return future

    # ------------------------------------------------------------ the model's thread

    def _work(self) -> None:
        while self._admit():
            self._step()

    def _admit(self) -> bool:
        """Take what is queued, as far as there is room; waits only while nothing runs. False: the end."""
        if self._running and isinstance(aside := self._waiting.take_beside(), Job):
            self._begin(aside)
        while len(self._running) < self._at_once:
            item = self._next()
            if item is None:
                break
            if isinstance(item, Job):
                self._begin(item)
            else:
                item()
                self._leftovers.settle()
            del item
            self._rest()
        return bool(self._running)

    def _rest(self) -> None:
        """Between jobs, with nobody waiting, there is time to clear up."""
        if not (self._running or self._waiting):
            self._leftovers.look()

    def _next(self) -> Item | None:
        if not (self._running or self._waiting):
            self._moved = None
        item = self._waiting.take(wait=not self._running)
        self._moved = time.monotonic()
        return item

    def _begin(self, job: Job) -> None:
        job.began = time.monotonic()
        if self.on_begun is not None:
            self.on_begun(job.request_id)
        try:
            outcome = self._infer(job)
        except BaseException as error:
            self._end(job, self._known(error))
            return
        if isinstance(outcome, Deferred):
            self._at_once = min(self._max_running, getattr(outcome.driver, "at_once", self._max_running))
            self._admission.slots = self._at_once
            self._running.append((job, outcome))
        else:
            self._end(job, outcome)

    def _infer(self, job: Job) -> Result | Deferred[Result]:
        job.check()
        request = self.handler.apply_mode_settings(job.request)
        self.handler.validate_inputs(request)
        return cast(Result | Deferred[Result], getattr(self.handler, job.verb)(request, job))

    def _step(self) -> None:
        """One step of each driver, then settle what has ended."""
        for driver in {id(deferred.driver): deferred.driver for _, deferred in self._running}.values():
            try:
                driver.step()
            except BaseException as error:
                self._give_up(driver, self._known(error))
        self._running = [pending for pending in self._running if not self._settled(*pending)]
        self._rest()

    def _give_up(self, driver: Driver, error: APIError) -> None:
        for job, deferred in self._running:
            if deferred.driver is driver:
                self._end(job, error)
        self._running = [pending for pending in self._running if pending[1].driver is not driver]

    def _settled(self, job: Job, deferred: Deferred[Result]) -> bool:
        try:
            outcome = deferred.poll()
        except BaseException as error:
            self._end(job, self._known(error))
            return True
        if outcome is None:
            return False
        self._end(job, outcome)
        return True

    def _end(self, job: Job, outcome: Result | APIError) -> None:
        job.bridge.post(partial(self._finish, job, outcome))

    def _known(self, error: BaseException) -> APIError:
        if isinstance(error, APIError):
            return error.with_traceback(None)
        self._leftovers.failed()
        if (is_out_of_memory(error) or is_lost(error)) and self._bridge is not None:
            self._bridge.post(self._exhausted)
        return foreign(error)


def _fulfil(future: Future[T], function: Callable[[], T]) -> None:
    """Unless nobody wants it any more; once it has begun it can no longer be called off."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # handed over whole: the caller decides
        future.set_exception(error)
