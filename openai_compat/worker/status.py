"""The worker's end of the status socket: it tells the gateway how it is, and ends this process when the gateway is gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from handlers.types import Usage
from openai_compat.protocol import Done, Hello, Progress, Status, encode_status

ORPHANED = 3
PROGRESS_SECONDS = 0.2


class StatusLine:
    """One connection for the life of the worker; ``send`` may be called from any thread.

    The end of the connection ends the process at once, whatever its threads do and without a word in the log, since writing
    that could block for ever: there is nobody left to work for.
    """

    def __init__(self, path: str) -> None:
        """Raises ``OSError`` when no gateway listens at ``path``."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._turn = threading.Lock()

    def greet(self, worker_id: str, token: str) -> None:
        self.send(Hello(worker_id=worker_id, token=token, pid=os.getpid()))
        threading.Thread(target=self._watch, name="status", daemon=True).start()

    def send(self, message: Status) -> None:
        try:
            with self._turn:
                self._socket.sendall(encode_status(message))
        except OSError:
            os._exit(ORPHANED)

    def _watch(self) -> None:
        with suppress(OSError):
            while self._socket.recv(4096):
                pass
        os._exit(ORPHANED)


class ProgressReport:
    """A ``handlers.types.LoadReport`` that sends each new stage at once and the rest a few times a second."""

    def __init__(self, send: Callable[[Status], None], seconds: float = PROGRESS_SECONDS) -> None:
        self._send = send
        self._seconds = seconds
        self._stage = ""
        self._due = 0.0

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        now = time.monotonic()
        if stage != self._stage or now >= self._due or 0 < total <= done:
            self._stage = stage
            self._due = now + self._seconds
            self._send(Progress(stage, done, total))


class Ledger:
    """Knows which requests this worker still has anything of, and reports ``Done`` once for each that came in.

    A request is done when its answer has gone out (``left``) and no job of it is ``active`` any more. Lives on the event loop.
    """

    def __init__(self, send: Callable[[Status], None]) -> None:
        self._send = send
        self.active: Callable[[], tuple[str, ...]] = tuple
        self._open: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._spent: dict[str, Usage] = {}

    @property
    def open(self) -> tuple[str, ...]:
        """Ids of the requests not yet reported done."""
        return tuple(self._open)

    def entered(self, request_id: str) -> None:
        self._open[request_id] += 1

    def left(self, request_id: str) -> None:
        self._answered[request_id] += 1
        self.settle(request_id)

    def spend(self, request_id: str, usage: Usage) -> None:
        """A job of the request took so much."""
        self._spent[request_id] = _sum(self._spent.get(request_id, Usage()), usage)

    def settle(self, request_id: str) -> None:
        """Report what is over; called too when a job ends."""
        if request_id in self.active():
            return
        for _ in range(self._answered.pop(request_id, 0)):
            self._open[request_id] -= 1
            self._send(_done(request_id, self._spent.pop(request_id, Usage())))
        if not self._open[request_id]:
            del self._open[request_id]
            self._spent.pop(request_id, None)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
    )


def _done(request_id: str, usage: Usage) -> Done:
    return Done(request_id, prompt=usage.prompt_tokens, completion=usage.completion_tokens, cached=usage.cached_tokens)
