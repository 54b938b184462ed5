"""Parts of uvicorn's connection that take less memory: there are thousands of connections, and most of them wait."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl


class SmallEvent(asyncio.Event):
    """A connection has two of them, and an empty deque takes 760 bytes."""

    _waiters: Any

    def __init__(self) -> None:
        super().__init__()
        self._waiters = []


class SmallFlow(FlowControl):
    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._is_writable_event = SmallEvent()
        self._is_writable_event.set()


class Pipeline(list[Any]):
    """Requests that wait for the answer before theirs: as a rule none, which a deque takes 760 bytes to say."""

    def appendleft(self, item: Any) -> None:
        self.insert(0, item)
