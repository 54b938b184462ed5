"""What streams cost that have nothing to say, and whether memory stays where it is.

    python benchmarks/relay_idle.py [--streams 1000] [--requests 100000]

A trivial upstream and this client share one core, the installed server runs on the other. First its memory before and while so
many streams are open that have begun and fallen silent, with the latency of other requests at a hundred a second before and
meanwhile; then its resident memory while so many whole answers are asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence

import aiohttp
import uvloop
from msgspec import structs
from support.asking import Question, at_rate, client, in_turn, quantile
from support.peers import base_of, gateway, mock_upstream
from support.watching import Look, look, resident

CORES = sorted(os.sched_getaffinity(0))[-2:]
CONFIG = """
[server]
ping_interval = {ping}
[upstreams.mock]
base_url = "http://127.0.0.1:{port}/v1"
models = {{ mock = {{}} }}
[upstreams.idle]
base_url = "http://127.0.0.1:{port}/idle/v1"
models = {{ idle = {{}} }}
idle_timeout = 3600
first_byte_timeout = 3600
"""
LIMIT = 25.0  # MB for 1,000 idle streams
FEW = 16  # clients at a time: so many are turned away by no server that is starved
STEPS = 20
WARM = 0.2  # of the requests: pools, caches and the allocator's arenas have found their sizes


class Server:
    """The running gateway, asked and watched."""

    def __init__(self, session: aiohttp.ClientSession, pid: int, port: int) -> None:
        self.pid = pid
        self._session = session
        self._port = port
        self.whole = Question(base_of(port)).asked(session)

    async def look(self) -> Look:
        return await look(self._session, self.pid, f"http://127.0.0.1:{self._port}", {})

    async def p99(self) -> float:
        """Milliseconds."""
        return quantile(await at_rate(self.whole, 100, 5), 0.99) * 1e3

    async def open_stream(self) -> aiohttp.ClientResponse:
        """A stream whose first event is here."""
        question = structs.replace(Question(base_of(self._port)), fields={"model": "idle", "stream": True})
        answer = await question.sent(self._session).__aenter__()
        await answer.content.readuntil(b"\n\n")
        return answer


async def idle(server: Server, count: int) -> None:
    await in_turn(server.whole, 1000, FEW)
    before, quick = await server.look(), await server.p99()
    streams: list[aiohttp.ClientResponse] = []
    for _ in range(0, count, 50):
        streams += await asyncio.gather(*(server.open_stream() for _ in range(min(50, count - len(streams)))))
    await asyncio.sleep(2)
    during, slow = await server.look(), await server.p99()
    show(f"{count} idle streams", before, during)
    more, limit = during.own - before.own, LIMIT * count / 1000
    print(f"memory of its own: {more:+.1f} MB, limit {limit:g} MB")
    print(f"other requests' p99: {quick:.1f} ms before, {slow:.1f} ms meanwhile")
    for stream in streams:
        stream.close()
    await asyncio.sleep(3)
    show("after they were closed", before, await server.look())


async def many(server: Server, count: int) -> None:
    sizes: list[float] = []
    for number in range(STEPS):
        await in_turn(server.whole, count // STEPS, FEW)
        sizes.append(resident(server.pid))
        print(f"{(number + 1) * count // STEPS:>9} requests: {sizes[-1]:.1f} MB resident", flush=True)
    warm = sizes[int(STEPS * WARM) - 1 :]
    print(f"after the first {WARM:.0%}: {warm[-1] - warm[0]:+.2f} MB, {slope(warm, count / STEPS):+.1f} bytes a request")


def slope(sizes: Sequence[float], step: float) -> float:
    """Bytes a request, by least squares over sizes in MB, ``step`` requests apart."""
    middle, mean = (len(sizes) - 1) / 2, sum(sizes) / len(sizes)
    above = sum((index - middle) * (size - mean) for index, size in enumerate(sizes))
    return above / sum((index - middle) ** 2 for index in range(len(sizes))) * 1e6 / step


def show(when: str, before: Look, now: Look) -> None:
    print(
        f"{when}: resident {before.resident:.1f} → {now.resident:.1f} MB, own {before.own:.1f} → {now.own:.1f} MB, "
        f"descriptors {before.descriptors} → {now.descriptors}, tasks {before.tasks} → {now.tasks}, in flight {now.in_flight}"
    )


async def measure(pid: int, port: int, options: argparse.Namespace) -> None:
    async with client() as session:
        server = Server(session, pid, port)
        await idle(server, options.streams)
        await many(server, options.requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--ping", type=float, default=15.0, help="seconds between the pings of a silent stream")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CORES[1]})
    with (
        mock_upstream(CORES[1], 100) as upstream,
        gateway(CONFIG.format(port=upstream, ping=options.ping), CORES[0]) as running,
    ):
        uvloop.run(measure(*running, options))


if __name__ == "__main__":
    main()
