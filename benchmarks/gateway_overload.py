"""Four times as many requests as the gateway itself can do: what is refused, how fast, how long the accepted ones take.

    python benchmarks/gateway_overload.py [--times 4] [--seconds 15]

Every answer is one that the gateway has kept, so that its own processor is all there is to run out of. The server has one core,
this client the other. The capacity, and the unloaded p99, are those of as many clients as it lets wait under pressure, each
asking again as soon as it is answered. Then requests come at ``times`` that rate, each at its moment, on 256 connections;
what finds none idle is told apart. The exit status is about the statuses, the p99 of refusals, and that of accepted requests.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop
from support.asking import quantile
from support.peers import gateway

CORES = sorted(os.sched_getaffinity(0))[-2:]
CONFIG = '[cache]\nsize = "16MiB"\n[models.mock]\nkind = "echo"\n'
BODY = b'{"model":"mock","messages":[{"role":"user","content":"Hi"}],"temperature":0}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
AT_ONCE = 16
CONNECTIONS = 256
REFUSED_WITHIN = 0.05
RATIO = 2.0
NOTICED = 2.0  # seconds in which the server notices
_LENGTH = b"content-length: "


class Connection(asyncio.Protocol):
    """One request at a time; a client as cheap as can be, since it must be four times as fast as the server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read = b""
        self._began = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._client.idle.append(self)

    def ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.find(_LENGTH)
        if at < 0 or len(body) < int(head[at + len(_LENGTH) :].partition(b"\r")[0]):
            return
        self._read = b""
        self._client.answered(self, int(head[9:12]), time.perf_counter() - self._began, b"retry-after" in head)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.lost(self)


class Client:
    """Connections, and what came of their requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._again = 0  # answers after which the same connection asks again
        self._done = asyncio.Event()
        self._connected = 0
        self.idle: deque[Connection] = deque()
        self.seconds: dict[int, list[float]] = {}
        self.problems: Counter[str] = Counter()

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        self._connected += count

    def answered(self, connection: Connection, status: int, seconds: float, hinted: bool) -> None:
        self.seconds.setdefault(status, []).append(seconds)
        if status != 200 and not hinted:
            self.problems["refusals without Retry-After"] += 1
        if self._again > 0:
            self._again -= 1
            connection.ask()
        else:
            self.idle.append(connection)
            self._done.set()

    def lost(self, connection: Connection) -> None:
        self.problems["connections lost"] += 1
        self._connected -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    async def busy(self, count: int, clients: int) -> float:
        """Seconds that ``count`` answers took, ``clients`` of them at a time."""
        began = time.perf_counter()
        self._again = count - clients
        for _ in range(clients):
            self.idle.popleft().ask()
        while self._again or len(self.idle) < self._connected:
            self._done.clear()
            await self._done.wait()
        return time.perf_counter() - began

    async def flood(self, rate: float, seconds: float) -> int:
        """How many requests there were, at ``rate`` a second, whatever became of the last. The first ones are not counted."""
        await self._ask_at(rate, NOTICED)
        self.seconds.clear()
        self.problems.clear()
        asked = await self._ask_at(rate, seconds)
        await asyncio.sleep(1.0)
        return asked

    async def _ask_at(self, rate: float, seconds: float) -> int:
        began, asked = time.perf_counter(), 0
        while (now := time.perf_counter() - began) < seconds:
            while asked < now * rate:
                asked += 1
                if self.idle:
                    self.idle.popleft().ask()
                else:
                    self.problems["no connection idle"] += 1
            await asyncio.sleep(0.0005)
        return asked


async def measure(port: int, options: argparse.Namespace) -> list[str]:
    client = Client(port)
    await client.connect(1)  # those that say nothing while the model is loaded, or the capacity measured, would be closed
    await client.busy(1, 1)
    await client.connect(AT_ONCE - 1)
    await client.busy(5_000, AT_ONCE)
    client.seconds.clear()
    capacity = 20_000 / await client.busy(20_000, AT_ONCE)
    unloaded = quantile(client.seconds.pop(200), 0.99)
    print(f"capacity {capacity:.0f}/s, p99 {unloaded * 1e3:.1f} ms, {AT_ONCE} at a time", dict(client.problems) or "")
    await client.connect(CONNECTIONS - AT_ONCE)
    asked = await client.flood(options.times * capacity, options.seconds)
    print(f"{asked / options.seconds:.0f}/s for {options.seconds:g} s:", dict(client.problems) or "")
    return list(judged(client, options.seconds, unloaded))


def judged(client: Client, seconds: float, unloaded: float) -> Iterator[str]:
    """Prints what was seen; yields what was not as it should be."""
    for status, latencies in sorted(client.seconds.items()):
        slowest = quantile(latencies, 0.99)
        typical = quantile(latencies, 0.5)
        print(f"  {status}: {len(latencies) / seconds:.0f}/s, p50 {typical * 1e3:.1f} ms, p99 {slowest * 1e3:.1f} ms")
        if status == 200:
            print(f"       {slowest / unloaded:.2f} times the unloaded p99")
            if slowest > RATIO * unloaded:
                yield f"accepted requests took {slowest / unloaded:.2f} times as long"
        elif status not in (429, 503):
            yield f"{len(latencies)} answers with status {status}"
        elif slowest > REFUSED_WITHIN:
            yield f"refusals took {slowest * 1e3:.0f} ms"
    yield from (f"{count} {name}" for name, count in client.problems.items() if name != "no connection idle")


@contextmanager
def server() -> Iterator[int]:
    with gateway(CONFIG, CORES[0]) as (_, port):
        yield port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=float, default=4.0, help="of the capacity")
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    os.sched_setaffinity(0, {CORES[1]})
    with server() as port:
        found = uvloop.run(measure(port, options))
    print("\n".join(found) or "refused at once, or answered in time")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
