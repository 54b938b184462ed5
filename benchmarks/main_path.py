"""What the main path costs, on the machine it is run on: start, memory, cancellation, and health under load.

    python benchmarks/main_path.py

Needs the default model to be pulled. Each figure stands beside the limit it is held to; times are of this machine, now.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil

MODEL = "smollm2-135m-instruct"
COMMAND = Path(sys.executable).with_name("openai-compat")
STREAMS = 32
ENDLESS = {"max_tokens": 2000, "ignore_eos": True}


class Server:
    """The installed command with its default configuration."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self.process = subprocess.Popen([COMMAND, "serve", "--port", "0"], stderr=self.log, stdout=self.log)
        self.url = ""

    async def origin(self) -> str:
        while not (found := re.search(r"http://[^\s/]+:\d+", Path(self.log.name).read_text())):
            await asyncio.sleep(0.005)
        self.url = found.group()
        return self.url

    def resident(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def torch_mapped(self) -> bool:
        maps = Path(f"/proc/{self.process.pid}/maps")
        return maps.exists() and "torch" in maps.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def body(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "temperature": 0, **fields}


async def seconds(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def healthy(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        try:
            async with session.get(f"{url}/health/live") as answer:
                await answer.read()
                return
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.005)


async def ask(session: aiohttp.ClientSession, url: str, prompt: str, **fields: Any) -> bytes:
    async with session.post(f"{url}/v1/chat/completions", json=body(prompt, **fields)) as answer:
        answer.raise_for_status()
        return await answer.read()


async def leave_stream(session: aiohttp.ClientSession, url: str) -> None:
    async with session.post(f"{url}/v1/chat/completions", json=body("A long story.", stream=True, **ENDLESS)) as answer:
        for _ in range(6):
            await answer.content.readline()
        answer.close()


async def leave_whole(session: aiohttp.ClientSession, url: str) -> None:
    task = asyncio.create_task(ask(session, url, "A long story.", **ENDLESS))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def freed_after(session: aiohttp.ClientSession, url: str, leave: Callable[..., Awaitable[None]]) -> float:
    """Seconds from the client's leaving until nothing of its request runs any more, as the metrics tell."""
    await leave(session, url)
    began = time.perf_counter()
    while await active(session, url):
        await asyncio.sleep(0.005)
    return time.perf_counter() - began


async def active(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(f"{url}/metrics") as answer:
        found = re.search(rf'openai_compat_model_active{{model="{MODEL}"}} (\d+)', await answer.text())
    return int(found.group(1)) if found else 0


async def many(session: aiohttp.ClientSession, url: str) -> tuple[int, list[float]]:
    """How many of the streams were complete, and how long each look at health took meanwhile."""
    looks: list[float] = []

    async def look() -> None:
        while True:
            looks.append(await seconds(lambda: healthy(session, url)))
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    asked = (ask(session, url, f"Say something about number {i}.", max_tokens=16, stream=True) for i in range(STREAMS))
    answers = await asyncio.gather(*asked)
    looking.cancel()
    return sum(answer.endswith(b"data: [DONE]\n\n") for answer in answers), looks


def show(name: str, value: str, limit: str) -> None:
    print(f"{name:<58}{value:>14}   limit {limit}", flush=True)


async def main() -> None:
    server = Server()
    try:
        url = await server.origin()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await healthy(session, url)
            show("gateway healthy after start", f"{time.perf_counter() - server.began:.2f} s", "1.5 s")
            show("gateway resident, before a model", f"{server.resident():.0f} MB", "100 MB")
            cold = await seconds(lambda: ask(session, url, "Hi", max_tokens=1))
            show("first answer, model loaded for it", f"{cold:.2f} s", "-")
            step = min([await seconds(lambda: ask(session, url, "Hi", max_tokens=1)) for _ in range(3)])
            show("one answer of one token", f"{1e3 * step:.0f} ms", "-")
            for name, leave in (("stream", leave_stream), ("whole answer", leave_whole)):
                freed = [await freed_after(session, url, leave) for _ in range(5)]
                show(f"model free after a client left a {name} (worst of 5)", f"{1e3 * max(freed):.0f} ms", "500 ms")
            complete, looks = await many(session, url)
            show(f"{STREAMS} streams at once: complete", f"{complete}", f"{STREAMS}")
            show("  /health/live meanwhile: median", f"{1e3 * statistics.median(looks):.1f} ms", "50 ms")
            show(f"  /health/live meanwhile: slowest of {len(looks)}", f"{1e3 * max(looks):.1f} ms", "50 ms")
            show("gateway resident, after all this", f"{server.resident():.0f} MB", "100 MB")
            show("torch mapped into the gateway", json.dumps(server.torch_mapped()), "false")
    finally:
        server.stop()


if __name__ == "__main__":
    asyncio.run(main())
