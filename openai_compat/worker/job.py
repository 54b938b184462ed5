"""One job: the model's thread writes into it, the event loop reads from it, and one flag stops it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from handlers.types import (
    Delta,
    FrameDelta,
    PictureDelta,
    ProgressDelta,
    Request,
    Result,
    SegmentDelta,
    SoundDelta,
    Usage,
    Verb,
)
from openai_compat.errors import APIError, Cancelled

logger = logging.getLogger(__name__)

MAX_UNREAD = 16 * 2**20
LOGPROB_BYTES = 256
_LOOK_AGAIN = 0.5  # seconds; a reader that comes in between wakes the writer at once


class Bridge:
    """Calls from the model's thread to one event loop. However many are posted, at most one wake-up is outstanding.

    Attributes:
        moved: when a job last showed that it gets on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self.moved = 0.0

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the loop, in the order of posting; nothing happens once the loop is closed."""
        self._calls.append(call)
        if not self._scheduled:
            self._scheduled = True
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._scheduled = False
        while self._calls:
            self._calls.popleft()()


class Job:
    """A request on its way through a model; a ``handlers.types.RunContext`` for the verb.

    ``emit``, ``check`` and ``spend`` belong to the model's thread, everything else to the event loop. ``cancel`` ends the
    waiting side at once and raises in the verb at its next ``emit`` or ``check``; the thread's end is told to the runner
    alone. Unread deltas are kept until ``MAX_UNREAD`` bytes: a reader that is slower than that loses its job, since waiting
    for it would stop the model for everybody else; partial pictures that it cannot keep up with are left out. Frames of a
    video wait for their reader, which is the encoder beside the model and never a client.

    Attributes:
        spent: what was computed for it; known when the thread's end is told.
        queued, began: when it was asked for, and when its turn came.
    """

    def __init__(self, verb: Verb, request: Request, request_id: str, bridge: Bridge, abandon: Callable[[Job], None]) -> None:
        self.verb = verb
        self.request = request
        self.request_id = request_id
        self.bridge = bridge
        self._abandon = abandon
        self.spent = Usage()
        self.queued = self.began = time.monotonic()
        self._stop: APIError | None = None
        self._outcome: Result | APIError | None = None
        self._unread: deque[Delta] = deque()
        self._emitted = 0
        self._taken = 0
        self._told = False
        self._wanted = True
        self._news = asyncio.Event()
        self._room = threading.Event()

    # ------------------------------------------------------------ the model's thread

    def emit(self, delta: Delta) -> None:
        self.check()
        if not self._wanted:
            return
        weight = _weight(delta)
        if isinstance(delta, FrameDelta):
            self._wait_for_room(weight)
        unread = self._emitted - self._taken
        if unread + weight > MAX_UNREAD:
            if not isinstance(delta, PictureDelta | FrameDelta):
                raise Cancelled("The client reads its answer too slowly.")
            if unread:  # the picture itself comes in the end, whether or not it was seen on the way
                return
        self._emitted += weight
        self._unread.append(delta)
        if not self._told:
            self._told = True
            self.bridge.post(self._news.set)

    def check(self) -> None:
        self.bridge.moved = time.monotonic()
        if self._stop is not None:
            raise self._stop

    def spend(self, usage: Usage) -> None:
        self.spent = usage

    def _wait_for_room(self, weight: int) -> None:
        while 0 < self._emitted - self._taken > MAX_UNREAD - weight and self._wanted:
            self._room.wait(_LOOK_AGAIN)
            self._room.clear()
            self.check()

    # ------------------------------------------------------------ the event loop

    @property
    def done(self) -> bool:
        """Whether the waiting side has its outcome; the model's thread may still be on its way out."""
        return self._outcome is not None

    def cancel(self, reason: APIError | None = None) -> None:
        """Stop the job for ``reason``. The first reason counts; a job that is done is left alone."""
        if self._outcome is None:
            self._stop = reason or Cancelled()
            self.settle(self._stop)
            self._abandon(self)

    def settle(self, outcome: Result | APIError) -> None:
        """Give the waiting side its outcome; later ones are ignored."""
        if self._outcome is None:
            self._outcome = outcome
            self._news.set()
            self._room.set()

    async def batches(self) -> AsyncIterator[list[Delta]]:
        """What was emitted since the last look, until the job ends. Raises its error. Closing the iterator cancels the job."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                outcome = self._outcome
                if batch := self._take():
                    yield batch
                if outcome is not None:
                    break
        finally:
            self.cancel()
        self._finish()

    async def result(self) -> Result:
        """The verb's result; raises its error. Deltas that nobody has asked for until now are not kept."""
        while self._outcome is None:
            self._wanted = False
            self._unread.clear()
            await self._news.wait()
            self._news.clear()
        self._news.set()
        return self._finish()

    def _finish(self) -> Result:
        if isinstance(self._outcome, APIError):
            raise self._outcome
        if self._outcome is None:
            raise Cancelled
        return self._outcome

    def _take(self) -> list[Delta]:
        self._told = False
        batch: list[Delta] = []
        while self._unread:
            batch.append(self._unread.popleft())
        self._taken += sum(map(_weight, batch))
        self._room.set()
        return batch


def _weight(delta: Delta) -> int:
    """Bytes that a delta keeps, roughly."""
    if isinstance(delta, PictureDelta | FrameDelta):
        return len(delta.picture.pixels)
    if isinstance(delta, ProgressDelta):
        return 0
    if isinstance(delta, SoundDelta):
        return len(delta.sound.pcm)
    if isinstance(delta, SegmentDelta):
        return len(delta.segment.text)
    return len(delta.text) + sum(LOGPROB_BYTES * (1 + len(entry.top)) for entry in delta.logprobs)
