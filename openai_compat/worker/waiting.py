"""What waits for a model's thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from handlers.types import Verb
from openai_compat.worker.job import Job

Item: TypeAlias = Job | Callable[[], None]
BESIDE: frozenset[Verb] = frozenset({"tokenize_text"})
"""Verbs that ask nothing of the model: their jobs take their turn between two of its steps, one each."""


class Waiting:
    """Jobs and calls in their order, and beside them the jobs of ``BESIDE``. Any thread may put and drop; one takes."""

    def __init__(self) -> None:
        self._queue: deque[Item] = deque()
        self._beside: deque[Item] = deque()
        self._turn = threading.Condition()
        self._ending = False

    def __bool__(self) -> bool:
        return bool(self._queue or self._beside)

    def put(self, item: Item) -> None:
        with self._turn:
            self._queue_of(item).append(item)
            self._turn.notify()

    def take(self, *, wait: bool) -> Item | None:
        """The next one; with ``wait`` None means the end, and what waits beside comes first."""
        with self._turn:
            while wait and not (self or self._ending):
                self._turn.wait()
            if wait and self._beside:
                return self._beside.popleft()
            return self._queue.popleft() if self._queue else None

    def take_beside(self) -> Item | None:
        with self._turn:
            return self._beside.popleft() if self._beside else None

    def drop(self, job: Job) -> bool:
        """Whether it still waited."""
        with self._turn:
            queue = self._queue_of(job)
            if job not in queue:
                return False
            queue.remove(job)
            return True

    def end(self) -> None:
        """Whoever waits for a next one need not."""
        with self._turn:
            self._ending = True
            self._turn.notify()

    def _queue_of(self, item: Item) -> deque[Item]:
        return self._beside if isinstance(item, Job) and item.verb in BESIDE else self._queue
