"""Mixed traffic for minutes, with a look at the server every few seconds: does everything come back to where it began?

    python benchmarks/relay_soak.py [--minutes 10] [--workers 16] [--pause 0.02]

The installed server relays to a trivial upstream that works, several that are broken, and a route of two of which one is ill
every few seconds: whole answers, streams, embeddings, uploads, errors, clients who leave in the middle, and clients who hardly
read. The base line is taken after a minute's traffic and a rest; the same rest follows the traffic. The verdict, and the exit
status, are about right answers, descriptors, tasks, requests in flight, and memory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence

import uvloop
from support.asking import client
from support.peers import KEY, WITH_KEY, gateway, mock_upstream
from support.traffic import BROKEN, Traffic
from support.watching import Look, look

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
REST = 90.0  # the longest that idle connections to upstreams are kept, and some
DESCRIPTORS = TASKS = 2
MEMORY = 5.0  # MB more than at the base line, for what the allocator keeps
GROWTH = 0.2  # MB a minute, after the first third
LONG_ENOUGH = 30  # looks; of fewer the collector's rounds make a slope of their own


class Soak:
    """The server under watch, and the traffic through it."""

    def __init__(self, pid: int, port: int, options: argparse.Namespace) -> None:
        self._pid = pid
        self._origin = f"http://127.0.0.1:{port}"
        self._options = options
        self.looks: list[tuple[float, Look]] = []

    async def look(self) -> Look:
        async with client() as session:
            return await look(session, self._pid, self._origin, WITH_KEY)

    async def traffic(self, seconds: float) -> Traffic:
        """Requests of ``workers`` clients until the time is over, each after a pause; all have ended when it returns."""
        until = time.monotonic() + seconds
        async with client() as session:
            traffic = Traffic(session, f"{self._origin}/v1", WITH_KEY)
            await traffic.each()

            async def work() -> None:
                while time.monotonic() < until:
                    await traffic.one()
                    await asyncio.sleep(self._options.pause)

            await asyncio.gather(self._watch(until), *(work() for _ in range(self._options.workers)))
        return traffic

    async def rest(self) -> Look:
        """What is left when connections that nobody uses had the time to close."""
        await asyncio.sleep(self._options.rest)
        return await self.look()

    async def _watch(self, until: float) -> None:
        began = time.monotonic()
        while time.monotonic() < until:
            now = await self.look()
            self.looks.append((time.monotonic() - began, now))
            show(f"{self.looks[-1][0]:6.0f} s", now)
            await asyncio.sleep(EVERY)


def show(when: str, now: Look) -> None:
    print(
        f"{when:<10} resident {now.resident:6.1f} MB, own {now.own:6.1f} MB, descriptors {now.descriptors:4}, "
        f"threads {now.threads:2}, tasks {now.tasks:3}, in flight {now.in_flight:3}",
        flush=True,
    )


def slope(looks: Sequence[tuple[float, Look]]) -> float:
    """MB a minute of own memory, by least squares over the last two thirds."""
    points = [(at / 60, now.own) for at, now in looks[len(looks) // 3 :]]
    middle = sum(at for at, _ in points) / len(points)
    width = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * own for at, own in points) / width if width else 0.0


def problems(before: Look, after: Look, traffic: Traffic, growth: float) -> list[str]:
    found = [f"{count} wrong: {what}" for what, count in traffic.wrong.most_common(20)]
    if after.in_flight:
        found.append(f"{after.in_flight} requests still in flight")
    for name, most in (("descriptors", DESCRIPTORS), ("tasks", TASKS)):
        if (more := getattr(after, name) - getattr(before, name)) > most:
            found.append(f"{more} {name} more than before")
    if after.own - before.own > MEMORY:
        found.append(f"{after.own - before.own:.1f} MB more than before")
    if growth > GROWTH:
        found.append(f"memory grows by {growth:.2f} MB a minute")
    return found


async def soak(pid: int, port: int, options: argparse.Namespace) -> list[str]:
    running = Soak(pid, port, options)
    await running.traffic(min(60.0, options.minutes * 20))
    before = await running.rest()
    show("base line", before)
    running.looks.clear()
    traffic = await running.traffic(options.minutes * 60)
    after = await running.rest()
    show("at the end", after)
    growth = slope(running.looks) if len(running.looks) >= LONG_ENOUGH else 0.0
    print(f"right: {sum(traffic.seen.values())} {dict(traffic.seen)}; memory under load: {growth:+.2f} MB a minute")
    return problems(before, after, traffic, growth)


def configuration(upstream: int) -> str:
    text = CONFIG.format(key=hash_key(KEY))
    return text + "".join(UPSTREAM.format(name=name, port=upstream) for name in NAMES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests of a worker")
    parser.add_argument("--rest", type=float, default=REST, help="seconds before the base line, and at the end")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CORES[1]})
    with mock_upstream(CORES[1], 100) as upstream, gateway(configuration(upstream), CORES[0]) as (pid, port):
        found = uvloop.run(soak(pid, port, options))
    print("\n".join(found) or "everything came back to where it began")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
