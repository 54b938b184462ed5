#!/usr/bin/env python3
"""Tokens a second of the text engine beside its peers, in turns in the same run, and how far from what the machine can do.

    python benchmarks/text_engine.py [MODEL_FOLDER] \\
        [--peer NAME BASE_URL MODEL] ... [-c 1 8 32] [--tokens 64] [--repeats 3] [--weights auto] [--threads N]

Starts our server on the folder, or else on the default model; peers
are servers that already run (``--peer llama.cpp http://127.0.0.1:9411/v1 peer``).
While one is asked the others have nothing to do. Printed are the median of the repeats with their spread, our median over the
peer's, and the limit: for each step the larger of weights read at the measured speed and products at the measured peak.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import torch
from support.serving import pulled, served, until_answered

from handlers.causal_lm import load
from handlers.decoding.kernels.compiler import library
from handlers.decoding.kernels.native import Kernels
from handlers.types import ModelSpec

SUBJECTS = ("rivers", "bread", "the moon", "bicycles", "glass", "honey bees", "lighthouses", "chess")
MB = 1 << 20


class Server(NamedTuple):
    name: str
    base: str
    model: str


class Found(NamedTuple):
    """Tokens a second, and the 99th percentile of the gaps between pieces in milliseconds."""

    speed: float
    gap: float


async def ask(session: aiohttp.ClientSession, server: Server, number: int, tokens: int, gaps: list[float]) -> int:
    text = f"Write a long story about {SUBJECTS[number % len(SUBJECTS)]} number {number}. " + "Use simple words. " * 4
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    usage = last = None
    async with session.post(f"{server.base}/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if any(choice["delta"].get("content") for choice in event.get("choices") or ()):
                now = time.perf_counter()
                gaps += [now - last] if last else []
                last = now
    assert usage, f"{server.name} sent no usage"
    return int(usage["completion_tokens"])


async def measure(server: Server, streams: int, tokens: int) -> Found:
    """As many requests as streams, but at least four, of which ``streams`` are under way at any time."""
    numbers, gaps = iter(range(max(4, streams))), []  # type: ignore[var-annotated]
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
        await ask(session, server, 0, 8, [])

        async def stream() -> int:
            return sum([await ask(session, server, number, tokens, gaps) for number in numbers])

        began = time.perf_counter()
        total = sum(await asyncio.gather(*(stream() for _ in range(streams))))
        seconds = time.perf_counter() - began
    return Found(total / seconds, 1e3 * sorted(gaps)[int(0.99 * len(gaps))])


def our_config(folder: str, weights: str, threads: int | None) -> str:
    settings = f'source = "{folder}"\npreload = true\n' + (f"threads = {threads}\n" if threads else "")
    return f'[models.measured]\n{settings}[models.measured.options]\nweights = "{weights}"\n'


class Limits(NamedTuple):
    """Bytes of weights, products a token, and the machine's bytes and products a second."""

    weights: int
    products: int
    read: float
    multiply: float

    def speed(self, streams: int) -> float:
        """Tokens a second that no way of computing could exceed."""
        return streams / max(self.weights / self.read, streams * self.products / self.multiply)


def limits(folder: str, weights: str) -> Limits:
    spec = ModelSpec(id="measured", path=folder, kind="transformer", device="cpu", options={"weights": weights})
    model = load(spec, lambda *_: None).model
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    products = sum(layer.weight.numel() for layer in layers)
    packed = [layer.forward.func.__self__ for layer in layers if hasattr(layer.forward, "func")]
    size = sum(matrix.nbytes for matrix in packed) or sum(
        layer.weight.numel() * layer.weight.element_size() for layer in layers
    )
    return Limits(size, products, *machine())


def machine() -> tuple[float, float]:
    kernels = Kernels(library(), threads=len(os.sched_getaffinity(0)))
    room = torch.ones(256 * MB, dtype=torch.uint8)
    count = 200_000
    read = len(room) / best(lambda: kernels.calls.limit_read(kernels.pool, room.data_ptr(), len(room)))
    done = count * 8 * 64 * 8 * kernels.threads
    return read, done / best(lambda: kernels.calls.limit_multiply(kernels.pool, count))


def best(work: Any) -> float:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def show(found: dict[tuple[str, int], list[Found]], servers: list[Server], streams: list[int], limit: Limits) -> None:
    print(f"weights {limit.weights / 1e6:.0f} MB, memory {limit.read / 1e9:.1f} GB/s, products {limit.multiply / 1e9:.0f} G/s")
    for count in streams:
        ours = statistics.median(one.speed for one in found["ours", count])
        for server in servers:
            speeds = [one.speed for one in found[server.name, count]]
            median, gap = statistics.median(speeds), statistics.median(one.gap for one in found[server.name, count])
            spread = f"({min(speeds):.1f} to {max(speeds):.1f})  gap p99 {gap:7.1f} ms"
            line = f"{count:>3} streams  {server.name:<14}{median:8.1f} tokens/s {spread}"
            tail = (
                f"  {ours / limit.speed(count):.0%} of the limit"
                if server.name == "ours"
                else f"  ours is {ours / median:.2f} times"
            )
            print(line + tail, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--peer", nargs=3, action="append", default=[], metavar=("NAME", "BASE_URL", "MODEL"))
    parser.add_argument("-c", "--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    folder = args.folder or pulled("smollm2-135m-instruct")
    limit = limits(folder, args.weights)
    found: dict[tuple[str, int], list[Found]] = {}
    with served(our_config(folder, args.weights, args.threads)) as origin:
        servers = [Server("ours", f"{origin}/v1", "measured"), *(Server(*peer) for peer in args.peer)]
        for server in servers:
            asyncio.run(until_answered(partial(ask, server=server, number=0, tokens=2, gaps=[])))
        for _ in range(args.repeats):
            for count in args.streams:
                for server in servers:
                    one = asyncio.run(measure(server, count, args.tokens))
                    found.setdefault((server.name, count), []).append(one)
                    print(f"  {count:>3} streams  {server.name:<14}{one.speed:8.1f} tokens/s", file=sys.stderr, flush=True)
        show(found, servers, args.streams, limit)


if __name__ == "__main__":
    main()
