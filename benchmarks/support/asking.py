"""A client that asks the same thing again and again, and notes how long each answer took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from msgspec import Struct

PATH = "/chat/completions"
Latencies = list[float]
Sent = AbstractAsyncContextManager[aiohttp.ClientResponse]
Once = Callable[[], Awaitable[None]]


class Unanswered(Exception):
    """An answer that is not a whole one."""


class Question(Struct, frozen=True):
    """What is asked of whom. ``base`` ends with ``/v1``."""

    base: str
    headers: Mapping[str, str] = {}
    fields: Mapping[str, Any] = {}

    def sent(self, session: aiohttp.ClientSession) -> Sent:
        body = {"model": "mock", "messages": [{"role": "user", "content": "Say hello twenty times, please."}], **self.fields}
        return session.post(self.base + PATH, json=body, headers=dict(self.headers))

    def asked(self, session: aiohttp.ClientSession) -> Once:
        """Asks once, and sees that the answer is a whole one."""
        end = b"data: [DONE]\n\n" if self.fields.get("stream") else b"}"

        async def ask() -> None:
            async with self.sent(session) as answer:
                payload = await answer.read()
                if answer.status != 200 or not payload.endswith(end):
                    raise Unanswered(f"status {answer.status}, {payload[:200]!r} … {payload[-40:]!r}")

        return ask


def client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60))


async def in_turn(once: Once, count: int, workers: int) -> Latencies:
    """``count`` answers, ``workers`` of them at a time, the next as soon as one is there."""
    latencies: Latencies = []
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            began = time.perf_counter()
            await once()
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(workers)))
    return latencies


async def at_rate(once: Once, rate: float, seconds: float) -> Latencies:
    """A request each ``1 / rate`` seconds, whether the last was answered or not.

    Each is counted from when it was sent: the loop's timers, a millisecond coarse, are no server's fault.
    """
    latencies: Latencies = []
    asked: list[asyncio.Task[None]] = []
    first = time.perf_counter()

    async def one() -> None:
        began = time.perf_counter()
        await once()
        latencies.append(time.perf_counter() - began)

    for number in range(int(rate * seconds)):
        await asyncio.sleep(first + number / rate - time.perf_counter())
        asked.append(asyncio.create_task(one()))
    await asyncio.gather(*asked)
    return latencies


def quantile(values: Latencies, share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
