"""How soon a model is served again after its process was killed with ``kill -9``, beside the time that it takes to load.

    python benchmarks/killed_worker.py [--rounds 10] [--model smollm2-135m-instruct]

In each round the model is unloaded and asked, which is the time to load; then its process is killed while it writes a stream,
and it is asked anew at the same moment, again after ``Retry-After`` where it is refused. The exit status is about the second
time being more than ``LIMIT`` seconds longer than the first one, and about the stream, which must say what happened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from statistics import median

import aiohttp
import psutil
from support.serving import pulled, served
from support.whole_server import workers

LIMIT = 5.0  # seconds beyond the time to load
CONFIG = """
[models.text]
source = "{source}"
"""
ASKED = {"model": "text", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
STORY = {**ASKED, "messages": [{"role": "user", "content": "Write a long story."}], "max_tokens": 2000, "stream": True}


class Client:
    """Asks the server at ``origin``."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self._session = session
        self._origin = origin
        self.refusals: list[str] = []

    async def answered(self) -> float:
        """Seconds until there is an answer; refusals on the way are noted."""
        began = time.perf_counter()
        while True:
            async with self._session.post(f"{self._origin}/v1/chat/completions", json=ASKED) as answer:
                body = await answer.read()
                if answer.status == 200:
                    return time.perf_counter() - began
                self.refusals.append(f"{answer.status} {json.loads(body)['error']['code']}")
                await asyncio.sleep(float(answer.headers["retry-after"]))

    async def loaded(self) -> float:
        while await self._is_busy():
            await asyncio.sleep(0.1)
        return await self.answered()

    async def _is_busy(self) -> bool:
        """Unloads the model, unless its worker has not yet said that its last request is done."""
        async with self._session.post(f"{self._origin}/models/unload", json={"model": "text"}) as answer:
            if answer.status == 409:
                return True
            answer.raise_for_status()
        return False

    async def killed(self, worker: psutil.Process) -> tuple[float, str]:
        """Also the last event of the stream that it was working on."""
        async with self._session.post(f"{self._origin}/v1/chat/completions", json=STORY) as story:
            await story.content.readline()
            worker.kill()
            seconds = await self.answered()
            return seconds, (await story.content.read()).decode().strip().rpartition("data: ")[2]


async def measure(origin: str, rounds: int) -> list[tuple[float, float, str]]:
    """Of each round the time to load, the time after a kill, and what became of the stream."""
    seen = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        client = Client(session, origin)
        await client.answered()
        (server,) = [child for child in psutil.Process().children() if workers(child.pid)]
        for number in range(rounds):
            load = await client.loaded()
            (worker,) = workers(server.pid)
            again, told = await client.killed(worker)
            seen.append((load, again, told))
            print(f"{number + 1}: loaded in {load:.2f} s, served {again:.2f} s after the kill", *client.refusals, flush=True)
            client.refusals.clear()
    return seen


def judged(seen: Sequence[tuple[float, float, str]]) -> Iterator[str]:
    loads, agains = [load for load, _, _ in seen], [again for _, again, _ in seen]
    print(f"to load: median {median(loads):.2f} s ({min(loads):.2f} to {max(loads):.2f})")
    print(f"after a kill: median {median(agains):.2f} s ({min(agains):.2f} to {max(agains):.2f})")
    for load, again, told in seen:
        if again > load + LIMIT:
            yield f"served after {again:.2f} s, {again - load:.2f} s more than it takes to load"
        if "worker_died" not in told:
            yield f"the stream ended with {told[:80]!r}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    options = parser.parse_args()
    with served(CONFIG.format(source=pulled(options.model))) as origin:
        seen = asyncio.run(measure(origin, options.rounds))
    print("\n".join(problems := list(judged(seen))) or "served again in time")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
