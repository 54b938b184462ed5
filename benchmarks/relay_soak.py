"""Mixed traffic for minutes, with a look at the server every few seconds: does everything come back to where it began?

    python benchmarks/relay_soak.py [--minutes 10] [--workers 16] [--pause 0.02] [--whole]

The installed server relays to a trivial upstream that works, several that are broken, and a route of two of which one is ill
every few seconds: whole answers, streams, embeddings, uploads, errors, clients who leave in the middle, and clients who hardly
read. The base line is taken after a minute's traffic and a rest; the same rest follows the traffic. The verdict, and the exit
status, are about right answers, descriptors, tasks, requests in flight, and memory: less than ``GROWTH`` as far as the looks
can tell. ``--whole`` is the whole server: also three models of its own, keys with limits, operators' requests, and a reload
every 5 seconds, of which every fourth is refused, and a killed worker every 15.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import uvloop
from support import whole_server
from support.asking import client
from support.peers import KEY, WITH_KEY, gateway, mock_upstream
from support.traffic import BROKEN, Traffic
from support.watching import Look, look, own_of, slope

from openai_compat.auth import hash_key

CORES = sorted(os.sched_getaffinity(0))[-2:]
UPSTREAM = """
[upstreams.{name}]
base_url = "http://127.0.0.1:{port}/{name}/v1"
models = {{ {name} = {{}} }}
retries = 0
"""
CONFIG = """
[auth]
keys = ["{key}"]
[metering]
tokens_per_day = 1000000000000
[routes.pair]
targets = ["flapping", "mock"]
policy = "round_robin"
"""
NAMES = ("mock", "long", "idle", "flapping", *BROKEN)
EVERY = 10.0  # seconds between two looks
REST = 130.0  # seconds: idle connections are kept for up to 90, and looked for now and then
DESCRIPTORS = TASKS = 2
MEMORY = 5.0  # MB more than at the base line, for what the allocator keeps
GROWTH = 1.0  # MB an hour, after the first third
LONG_ENOUGH = 30  # looks; of fewer the collector's rounds make a slope of their own


class Soak:
    """The server under watch, and the traffic through it; ``folder`` is where a whole one keeps what it keeps."""

    def __init__(self, pid: int, port: int, options: argparse.Namespace, folder: Path) -> None:
        self._pid = pid
        self._origin = f"http://127.0.0.1:{port}"
        self._options = options
        self._trouble = whole_server.Trouble(pid, folder) if options.whole else None
        self._limited = ""
        self.looks: list[tuple[float, Look]] = []
        self.workers: dict[int, list[tuple[float, float]]] = {}

    async def begin(self) -> None:
        if self._trouble is not None:
            self._limited = (await self._trouble.new_key(name="limited", limits={"requests_per_minute": 60}))["value"]

    async def look(self) -> Look:
        async with client() as session:
            return await look(session, self._pid, self._origin, WITH_KEY)

    async def traffic(self, seconds: float) -> Traffic:
        """Requests of ``workers`` clients until the time is over, each after a pause; all have ended when it returns."""
        async with client() as session:
            traffic = self._traffic(session)
            await traffic.each()
            until = time.monotonic() + seconds

            async def work() -> None:
                while time.monotonic() < until:
                    await traffic.one()
                    await asyncio.sleep(self._options.pause)

            trouble = asyncio.create_task(self._make_trouble())
            await asyncio.gather(self._watch(until), *(work() for _ in range(self._options.workers)))
            trouble.cancel()
            for ended in await asyncio.gather(trouble, return_exceptions=True):
                if isinstance(ended, Exception):
                    traffic.wrong[f"{type(ended).__name__}: {ended}"] += 1
            await self._settle(traffic)
        return traffic

    def _traffic(self, session: aiohttp.ClientSession) -> Traffic:
        base = f"{self._origin}/v1"
        if self._trouble is None:
            return Traffic(session, base, WITH_KEY)
        return whole_server.WholeTraffic(session, base, WITH_KEY, self._limited)

    async def _make_trouble(self) -> None:
        if self._trouble is not None:
            await self._trouble.make()

    async def _settle(self, traffic: Traffic) -> None:
        """The configuration as it was, and all models in memory."""
        if self._trouble is not None:
            await self._trouble.settle()
            print(f"meanwhile: {self._trouble.done}")
            await traffic.each()

    async def rest(self) -> Look:
        """What is left when connections that nobody uses had the time to close."""
        await asyncio.sleep(self._options.rest)
        return await self.look()

    async def _watch(self, until: float) -> None:
        began = time.monotonic()
        while time.monotonic() < until:
            now = await self.look()
            at = time.monotonic() - began
            self.looks.append((at, now))
            show(f"{at:6.0f} s", now, self._look_at_workers(at))
            await asyncio.sleep(EVERY)

    def _look_at_workers(self, at: float) -> list[float]:
        """What each worker has of its own now, in MB."""
        found = [(worker.pid, own_of(worker)) for worker in whole_server.workers(self._pid)] if self._options.whole else []
        for pid, own in found:
            self.workers.setdefault(pid, []).append((at, own))
        return [own for _, own in found]


def show(when: str, now: Look, workers: Iterable[float] = ()) -> None:
    print(
        f"{when:<10} resident {now.resident:6.1f} MB, own {now.own:6.1f} MB, descriptors {now.descriptors:4}, "
        f"threads {now.threads:2}, tasks {now.tasks:3}, in flight {now.in_flight:3}"
        + "".join(f", {own:.1f}" for own in workers),
        flush=True,
    )


def late(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the first third, in which caches fill."""
    return points[len(points) // 3 :]


def growing(name: str, points: list[tuple[float, float]]) -> list[str]:
    """Print how memory grows; a problem where it certainly does by more than it may."""
    rise, error = slope(late(points))
    told = "" if rise + error <= GROWTH else f": too few looks to tell that it is less than {GROWTH:g}"
    print(f"{name}: {rise:+.2f} ± {error:.2f} MB an hour, {points[-1][1]:.1f} MB at the end, by {len(points)} looks{told}")
    if len(points) < LONG_ENOUGH or rise - error <= GROWTH:
        return []
    return [f"{name}: memory grows by {rise:.2f} MB an hour"]


def problems(before: Look, after: Look, traffic: Traffic) -> list[str]:
    found = [f"{count} wrong: {what}" for what, count in traffic.wrong.most_common(20)]
    if after.in_flight:
        found.append(f"{after.in_flight} requests still in flight")
    for name, most in (("descriptors", DESCRIPTORS), ("tasks", TASKS)):
        if (more := getattr(after, name) - getattr(before, name)) > most:
            found.append(f"{more} {name} more than before")
    if after.own - before.own > MEMORY:
        found.append(f"{after.own - before.own:.1f} MB more than before")
    return found


async def soak(pid: int, port: int, options: argparse.Namespace, folder: Path) -> list[str]:
    running = Soak(pid, port, options, folder)
    await running.begin()
    await running.traffic(min(60.0, options.minutes * 20))
    before = await running.rest()
    show("base line", before)
    running.looks.clear()
    running.workers.clear()
    traffic = await running.traffic(options.minutes * 60)
    after = await running.rest()
    show("at the end", after)
    print(f"right: {sum(traffic.seen.values())} {dict(traffic.seen)}")
    found = growing("gateway", [(at, now.own) for at, now in running.looks])
    for worker, points in running.workers.items():
        if len(points) == len(running.looks):
            found += growing(f"worker {worker}", points)
    return problems(before, after, traffic) + found


def configuration(upstream: int, options: argparse.Namespace, folder: Path) -> str:
    text = CONFIG.format(key=hash_key(KEY)) + "".join(UPSTREAM.format(name=name, port=upstream) for name in NAMES)
    return text + (whole_server.configuration(folder) if options.whole else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests of a worker")
    parser.add_argument("--rest", type=float, default=REST, help="seconds before the base line, and at the end")
    parser.add_argument("--whole", action="store_true", help="the whole server, and trouble of every kind")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CORES[1]})
    with ExitStack() as stack:
        folder = stack.enter_context(whole_server.place())
        upstream = stack.enter_context(mock_upstream(CORES[1], 100))
        pid, port = stack.enter_context(gateway(configuration(upstream, options, folder), CORES[0]))
        found = uvloop.run(soak(pid, port, options, folder))
    print("\n".join(found) or "everything came back to where it began")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
