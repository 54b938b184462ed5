"""The events of one response that goes on without its client: kept in memory, and given to whoever comes for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from openai_compat.errors import APIError, InvalidRequest

LONGEST = 4 << 20
"""Bytes of events that one response keeps; the oldest go first."""


class EventLog:
    """Frames by their sequence numbers, which begin at 0 and have no gaps. Lives on the event loop."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._frames: list[bytes] = []
        self._gone = 0
        self._closed = False
        self._news = asyncio.Event()
        self.size = 0

    @property
    def next(self) -> int:
        """The number of the next event."""
        return self._gone + len(self._frames)

    def put(self, frames: Sequence[bytes]) -> None:
        self._frames += frames
        self.size += sum(map(len, frames))
        if self.size > self._longest:
            self._shrink()
        self._tell()

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._tell()

    def check(self, after: int) -> None:
        """Raises ``InvalidRequest`` where events after number ``after`` are gone already."""
        if after + 1 < self._gone:
            message = f"Events are kept from number {self._gone} on. Go on from there, or retrieve the response whole."
            raise InvalidRequest(message, param="starting_after", code="events_gone")

    async def read(self, after: int) -> AsyncIterator[bytes]:
        """Whatever comes after the event numbered ``after``, to the end. Raises ``APIError`` for a reader who is too slow."""
        place = after + 1
        while True:
            if place < self._gone:
                raise APIError("The reader was so slow that events are gone. Retrieve the response.", code="events_gone")
            if place < self.next:
                piece, place = b"".join(self._frames[place - self._gone :]), self.next
                yield piece
            elif self._closed:
                return
            else:
                await self._news.wait()

    def _shrink(self) -> None:
        """To three quarters, so that this is rare."""
        count = 0
        while self.size > self._longest * 3 // 4 and count < len(self._frames) - 1:
            self.size -= len(self._frames[count])
            count += 1
        del self._frames[:count]
        self._gone += count

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
