"""Four times as many requests as can be done: what is refused, how fast, and how long the accepted ones take.

    python benchmarks/overload.py [--of echo text relay] [--times 4] [--seconds 20]

The capacity is measured first, in the same run, by clients who take every turn that the model has and never wait: that is
the load that it can just bear, and its p99 the unloaded one. Then requests come ``times`` as fast, whatever becomes of
them. The first of these seconds, in which the queue is still a burst to the server, are told apart. The exit status is about
the others: only 429 and 503, with ``Retry-After``, within 50 ms; accepted ones within twice the unloaded p99.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import aiohttp
import uvloop
from msgspec import Struct
from support.asking import Question, client, quantile
from support.peers import base_of, gateway, mock_upstream
from support.serving import pulled, served, until_answered

CORES = sorted(os.sched_getaffinity(0))[-2:]
REFUSED_WITHIN = 0.05
RATIO = 2.0
AGAIN = 0.002
SLOTS = 8
ECHO = '[models.mock]\nkind = "echo"\noptions = {delay = 0.3}\n'
TEXT = '[models.mock]\nsource = "{source}"\noptions = {{engine = {{sequences = {slots}}}}}\n'
RELAY = '[upstreams.mock]\nbase_url = "{base}"\nmax_in_flight = {slots}\nretries = 0\nmodels = {{mock = {{}}}}\n'


class Case(Struct, frozen=True, kw_only=True):
    """``slots`` requests are worked on at a time."""

    name: str
    slots: int
    fields: Mapping[str, Any]


class Outcome(Struct, frozen=True):
    at: float
    status: int
    seconds: float
    hinted: bool


CASES = {
    "echo": Case(name="echo", slots=1, fields={"messages": [{"role": "user", "content": "Hi"}]}),
    "text": Case(name="text", slots=SLOTS, fields={"max_tokens": 24, "temperature": 0}),
    "relay": Case(name="relay", slots=SLOTS, fields={"stream": True, "seed": 1}),
}


@contextmanager
def server(case: Case, cores: list[int]) -> Iterator[str]:
    """Where it listens."""
    if case.name == "relay":
        with ExitStack() as stack:
            upstream = stack.enter_context(mock_upstream(cores[1], 100))
            config = RELAY.format(base=base_of(upstream), slots=case.slots)
            _, port = stack.enter_context(gateway(config, cores[0]))
            yield f"http://127.0.0.1:{port}"
    else:
        config = ECHO if case.name == "echo" else TEXT.format(source=pulled("smollm2-135m-instruct"), slots=case.slots)
        with served(config) as origin:
            yield origin


async def once(session: aiohttp.ClientSession, question: Question, first: float) -> Outcome:
    began = time.perf_counter()
    try:
        async with question.sent(session) as answer:
            await answer.read()
            return Outcome(began - first, answer.status, time.perf_counter() - began, "retry-after" in answer.headers)
    except aiohttp.ClientError:
        return Outcome(began - first, 0, time.perf_counter() - began, False)


async def busy(session: aiohttp.ClientSession, question: Question, case: Case, count: int) -> list[float]:
    """How long each of ``count`` answers took where every turn was taken again as soon as it was free."""
    latencies: list[float] = []

    async def work() -> None:
        while len(latencies) < count:
            outcome = await once(session, question, 0.0)
            if outcome.status == 200:
                latencies.append(outcome.seconds)
            else:
                await asyncio.sleep(AGAIN)  # the turn of an answer that is whole is not free yet

    await asyncio.gather(*(work() for _ in range(case.slots)))
    return latencies


async def flood(session: aiohttp.ClientSession, question: Question, rate: float, seconds: float) -> list[Outcome]:
    """A request each ``1 / rate`` seconds, whatever became of the last."""
    first = time.perf_counter()
    asked = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(first + number / rate - time.perf_counter())
        asked.append(asyncio.create_task(once(session, question, first)))
    return await asyncio.gather(*asked)


def report(name: str, outcomes: list[Outcome], unloaded: float) -> list[str]:
    """Print what was seen; what was not as it should be."""
    statuses = Counter(outcome.status for outcome in outcomes)
    accepted = [outcome.seconds for outcome in outcomes if outcome.status == 200]
    refused = [outcome for outcome in outcomes if outcome.status in (429, 503)]
    print(f"  {name}: {dict(statuses)}")
    if not accepted or not refused:
        return [f"{name}: nothing was {'refused' if accepted else 'accepted'}"]
    slowest = quantile([outcome.seconds for outcome in refused], 0.99)
    ratio = quantile(accepted, 0.99) / unloaded
    print(
        f"    refused: p50 {quantile([one.seconds for one in refused], 0.5) * 1e3:.1f} ms, p99 {slowest * 1e3:.1f} ms; "
        f"accepted: p50 {quantile(accepted, 0.5):.2f} s, p99 {quantile(accepted, 0.99):.2f} s, {ratio:.2f} times the unloaded"
    )
    found = [f"{count} answers with status {status}" for status, count in statuses.items() if status not in (200, 429, 503)]
    if not all(outcome.hinted for outcome in refused):
        found.append("a refusal without Retry-After")
    if slowest > REFUSED_WITHIN:
        found.append(f"refusals took {slowest * 1e3:.0f} ms")
    if ratio > RATIO:
        found.append(f"accepted requests took {ratio:.2f} times as long")
    return [f"{name}: {problem}" for problem in found]


async def measure(case: Case, origin: str, options: argparse.Namespace) -> list[str]:
    question = Question(f"{origin}/v1", {}, case.fields)
    await until_answered(lambda session: question.asked(session)())
    async with client() as session:
        await busy(session, question, case, 2 * case.slots)
        began = time.perf_counter()
        latencies = await busy(session, question, case, options.sample * case.slots)
        capacity, unloaded = len(latencies) / (time.perf_counter() - began), quantile(latencies, 0.99)
        print(f"{case.name}: {capacity:.1f} answers a second, p99 {unloaded:.2f} s, {case.slots} at a time")
        onset = max(6.0, 20 * unloaded)
        outcomes = await flood(session, question, options.times * capacity, onset + options.seconds)
    report("while it may be a burst", [outcome for outcome in outcomes if outcome.at < onset], unloaded)
    return report(f"{case.name}, then", [outcome for outcome in outcomes if outcome.at >= onset], unloaded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--times", type=float, default=4.0, help="of the capacity")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--sample", type=int, default=30, help="answers of each turn by which the capacity is measured")
    options = parser.parse_args()
    found = []
    for name in options.of:
        with server(CASES[name], CORES) as origin:
            found += uvloop.run(measure(CASES[name], origin, options))
    print("\n".join(found) or "refused at once, or answered in time")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
