"""Responses that are made without their client: a few of each key at once, the others in their order.

Each is in the store from the moment on that its client knows of it. What it comes to is written before its last event is told.
The end of a server lets those that run finish within the grace; what is then unfinished has failed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import Struct, structs

from openai_compat.config import Config
from openai_compat.config import Jobs as Turns
from openai_compat.errors import APIError, AuthenticationFailed, RateLimited, Unavailable
from openai_compat.gateway.jobs.queue import JobQueue
from openai_compat.gateway.responses.answers import Answers, known
from openai_compat.gateway.responses.event_log import EventLog
from openai_compat.gateway.responses.orders import Order
from openai_compat.gateway.responses.records import FINISHED_WELL, RESTARTED, draft_of, failed, record_of
from openai_compat.gateway.responses.rows import RESPONSE, Row
from openai_compat.gateway.responses.shelf import Shelf
from openai_compat.grants import Grant
from openai_compat.translate.responses import frame
from schemas.responses_answer import Event, Response

logger = logging.getLogger(__name__)
T = TypeVar("T")
Still = Callable[[Grant], Grant | None]
"""What a key may do by now; None where it has ended."""
_MOST = 512  # of all keys, running and waiting
_LARGEST = 256 << 20  # bytes of all their chats together
_RETRY_AFTER = 30.0  # seconds that a client is told to wait where too many wait already
_PAUSE = 5.0  # seconds between two looks for room on the disk
_FAREWELL = 10.0  # seconds in which all that is unfinished is written when the server ends; the next one does the rest
_LINGER = 300.0  # seconds for which the events of a finished one stay as they were
_LOGS = 64  # finished ones whose events stay
_LOGGED = 32 << 20  # bytes of their events


class Job:
    """One response on its way. ``size`` is bytes of its chat."""

    def __init__(self, order: Order, size: int) -> None:
        self.order = order
        self.owner = order.owner
        self.size = size
        self.answering = order.answering()
        self.log = EventLog()
        self.started = False
        self.final: list[Event] | None = None
        self.ending = asyncio.Lock()
        self.tell(self.answering.begin())

    @property
    def response(self) -> Response:
        return self.answering.response

    def tell(self, events: Iterable[Event]) -> None:
        self.log.put([frame(event) for event in events])


class Finished(Struct, frozen=True, kw_only=True):
    """One that has ended, and its events as they were."""

    owner: str
    response: Response
    log: EventLog


class Background:
    def __init__(self, config: Config, shelf: Shelf, answers: Answers, still: Still) -> None:
        self._shelf = shelf
        self._answers = answers
        self._still = still
        self._grace = config.server.shutdown_grace
        self._timeout = config.jobs.timeout
        self._queue = JobQueue(Turns(per_model=config.responses.background_at_once, max_waiting=_MOST))
        self._jobs: dict[str, Job] = {}
        self._finished: dict[str, Finished] = {}

    async def start(self) -> None:
        """What an earlier server left unfinished has failed."""
        try:
            await self._shelf.cut_off(_cut_off)
        except (Unavailable, sqlite3.Error) as error:  # clients are told so nevertheless
            logger.warning("it could not be written that an earlier server's responses have failed: %s", error)

    async def close(self) -> None:
        await self._queue.close(self._grace)
        try:
            async with asyncio.timeout(_FAREWELL):
                for job in tuple(self._jobs.values()):
                    await self._stop(job, lambda job: job.answering.fail(APIError(RESTARTED.message)))
        except TimeoutError:
            logger.warning("%d unfinished responses are left to the next server", len(self._jobs))

    # ------------------------------------------------------------ what clients ask

    def find(self, id: str, owner: str) -> Job | Finished | None:
        """One that is on its way, or has just ended."""
        found = self._jobs.get(id) or self._finished.get(id)
        return found if found is not None and found.owner == owner else None

    async def put(self, order: Order) -> Job:
        """Raises ``RateLimited`` and ``Unavailable`` where it cannot be taken."""
        job = Job(order, len(msgspec.json.encode(order.turn.chat)))
        self._admit(job)
        self._jobs[order.id] = job
        try:
            await self._shelf.add(draft_of(order, job.response, expires=self._shelf.expires))
        except BaseException:
            del self._jobs[order.id]
            raise
        self._queue.put(order.id, order.owner, partial(self._work, job))
        return job

    async def cancel(self, id: str) -> None:
        """Returns when nothing of it runs any more. Nothing happens where it is finished."""
        job = self._jobs.get(id)
        if job is None:
            return
        await self._queue.cancel(id)
        await self._stop(job, lambda job: job.answering.cancel())

    def forget(self, id: str) -> None:
        self._finished.pop(id, None)

    # ------------------------------------------------------------ the work

    def _admit(self, job: Job) -> None:
        self._queue.admit()
        jobs = self._jobs.values()
        waiting = sum(other.owner == job.owner and not other.started for other in jobs)
        size = job.size + sum(other.size for other in jobs)
        if waiting >= self._shelf.settings.background_waiting or len(jobs) >= _MOST or size > _LARGEST:
            raise RateLimited("Too many responses are waiting already.", retry_after=_RETRY_AFTER)

    async def _work(self, job: Job) -> None:
        """Cancelled, it leaves the rest to whoever cancels it."""
        began = time.monotonic()
        job.started = True
        job.tell(job.answering.proceed())
        try:
            async with asyncio.timeout(self._timeout):
                final = await self._answered(job)
        except TimeoutError:
            final = job.answering.fail(APIError("The response took too long."))
        except Exception as error:
            final = job.answering.fail(known(error, job.order.id))
        await self._end(job, final)
        logger.info("the response %s has ended as %s after %.1f s", job.order.id, job.response.status, time.monotonic() - began)

    async def _answered(self, job: Job) -> list[Event]:
        """The last events. Raises ``APIError``."""
        async with AsyncExitStack() as stack:
            chunks = await patiently(lambda: self._answers.opened(self._by_now(job.order), stack))
            async for batch in chunks:
                job.tell(event for chunk in batch for event in job.answering.add(chunk))
        return job.answering.finish()

    def _by_now(self, order: Order) -> Order:
        """In the name of its key as that is now. Raises ``AuthenticationFailed`` where it may not ask any more."""
        grant = self._still(order.asker.grant)
        if grant is None or "chat" not in grant.scopes:
            raise AuthenticationFailed("The key that asked for the response may not ask for it any more.")
        return structs.replace(order, asker=structs.replace(order.asker, grant=grant))

    async def _stop(self, job: Job, how: Callable[[Job], list[Event]]) -> None:
        """Bring one whose work was cancelled to its end, unless it has reached that already."""
        async with job.ending:
            if job.order.id in self._jobs:
                await self._end(job, how(job) if job.final is None else job.final)

    async def _end(self, job: Job, final: list[Event]) -> None:
        job.final, response = final, job.answering.response
        conversation = job.order.conversation if response.status in FINISHED_WELL else None
        last = final[-1].sequence_number if final else job.log.next - 1
        draft = draft_of(job.order, response, expires=self._shelf.expires, last=last)
        await _insist(partial(self._shelf.finish, draft, conversation), job.order.id)
        self._jobs.pop(job.order.id, None)
        job.tell(final)
        job.log.close()
        self._remember(job)

    def _remember(self, job: Job) -> None:
        id, finished = job.order.id, self._finished
        finished[id] = Finished(owner=job.owner, response=job.response, log=job.log)
        while len(finished) > _LOGS or sum(one.log.size for one in finished.values()) > _LOGGED:
            del finished[next(iter(finished))]
        asyncio.get_running_loop().call_later(_LINGER, self.forget, id)


async def patiently(open: Callable[[], Awaitable[T]]) -> T:
    """Nobody waits for the answer, so a refusal that will pass is waited for."""
    while True:
        try:
            return await open()
        except (RateLimited, Unavailable) as error:
            if error.retry_after is None or error.retry is False:
                raise
            await asyncio.sleep(error.retry_after)


async def _insist(write: Callable[[], Awaitable[object]], id: str) -> None:
    """Until there is room on the disk: a response that ends in a state which is not its end would be waited for in vain."""
    while True:
        try:
            await write()
            return
        except (Unavailable, sqlite3.Error) as error:
            logger.warning("the response %s waits to be kept: %s", id, error)
            await asyncio.sleep(_PAUSE)


def _cut_off(connection: sqlite3.Connection) -> None:
    query = "SELECT id, status, created, body FROM objects WHERE kind = ? AND status IN ('queued', 'in_progress')"
    for row in [Row(*found) for found in connection.execute(query, (RESPONSE,))]:
        record = record_of(row)
        body = msgspec.json.encode(structs.replace(record, response=failed(record.response)))
        connection.execute("UPDATE objects SET status = 'failed', body = ? WHERE id = ?", (body, row.id))
