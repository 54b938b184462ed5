#!/usr/bin/env python3
"""Texts a second over HTTP beside peers and beside a bare batched loop of the same model, in turns in the same run.

    python benchmarks/embeddings.py [MODEL_FOLDER] [--peer NAME BASE_URL MODEL] ... [-c 8] [--batch 16] [--requests 32]
                                    [--repeats 3] [--dtype auto]

Starts our server on the folder, or else on the default model; peers
are servers that already run (``--peer infinity http://127.0.0.1:9413/v1 NAME``). While
one is asked the others have nothing to do. The bare loop is transformers in a process of its own, on one thread, in the dtype
that our server chooses: tokenise 16 texts, pad, run, average, normalise, again and again, with nothing around it. Printed are
the medians with their spread, and our median over each other's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import aiohttp
from support.serving import pulled, served, until_answered

SUBJECTS = (
    *("rivers", "bread", "the moon", "bicycles", "glass", "honey bees", "lighthouses", "chess"),
    *("volcanoes", "paper", "clocks", "forests", "salt", "bridges", "whales", "tea"),
)


class Server(NamedTuple):
    name: str
    base: str
    model: str


def texts(number: int, batch: int) -> list[str]:
    """From one sentence to four."""
    return [
        f"{SUBJECTS[(number + k) % len(SUBJECTS)]}: " + "a sentence of ordinary length about this subject. " * (1 + k % 4)
        for k in range(batch)
    ]


# ---------------------------------------------------------------- servers


async def ask(session: aiohttp.ClientSession, server: Server, number: int, batch: int) -> None:
    body = {"model": server.model, "input": texts(number, batch)}
    async with session.post(f"{server.base}/embeddings", json=body) as answer:
        answer.raise_for_status()
        found = len((await answer.json())["data"])
    if found != batch:
        sys.exit(f"{server.name} sent {found} vectors for {batch} texts")


async def measure(server: Server, clients: int, requests: int, batch: int) -> float:
    numbers = iter(range(requests))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:
        await ask(session, server, 0, batch)

        async def client() -> None:
            for number in numbers:
                await ask(session, server, number, batch)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return requests * batch / (time.perf_counter() - began)


def our_config(folder: str, dtype: str) -> str:
    return f'[models.measured]\nsource = "{folder}"\ndtype = "{dtype}"\npreload = true\n'


# ---------------------------------------------------------------- the bare loop


@contextmanager
def bare_loop(folder: str, dtype: str) -> Iterator[Callable[[int, int], float]]:
    """A process that runs the loop when it is told to, and else waits for its standard input."""
    command = [sys.executable, __file__, folder, "--dtype", dtype, "--loop"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as process:
        if process.stdin is None or process.stdout is None:
            sys.exit("the loop has no pipes")
        told, said = process.stdin, process.stdout

        def run(requests: int, batch: int) -> float:
            print(requests, batch, file=told, flush=True)
            return float(json.loads(said.readline()))

        run(1, 16)
        yield run
        told.close()


def loop(folder: str, dtype: str) -> None:
    import torch
    from torch.nn.functional import normalize
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    for line in sys.stdin:
        requests, batch = map(int, line.split())
        began = time.perf_counter()
        for number in range(requests):
            inputs = tokenizer(texts(number, batch), padding=True, return_tensors="pt")
            with torch.inference_mode():
                mask = inputs["attention_mask"][..., None].float()
                hidden = model(**inputs).last_hidden_state.float()
                normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
        print(json.dumps(requests * batch / (time.perf_counter() - began)), flush=True)


def chosen_dtype(folder: str, dtype: str) -> str:
    """What ``auto`` becomes here."""
    from handlers.embedding import EmbeddingHandler
    from handlers.types import ModelSpec

    handler = EmbeddingHandler(ModelSpec(id="measured", path=folder, kind="embedding", dtype=dtype))
    handler.load_model(lambda *_: None)
    encoder = handler._model.lanes["text"].__self__  # type: ignore[attr-defined]
    return str(encoder._model.dtype).removeprefix("torch.")


# ---------------------------------------------------------------- the run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--peer", nargs=3, action="append", default=[], metavar=("NAME", "BASE_URL", "MODEL"))
    parser.add_argument("-c", "--clients", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        loop(args.folder, args.dtype)
        return
    folder = args.folder or pulled("all-minilm-l6-v2")
    dtype = chosen_dtype(folder, args.dtype)
    found: dict[str, list[float]] = {}
    with served(our_config(folder, args.dtype)) as origin, bare_loop(folder, dtype) as bare:
        servers = [Server("ours", f"{origin}/v1", "measured"), *(Server(*peer) for peer in args.peer)]
        for server in servers:
            asyncio.run(until_answered(partial(ask, server=server, number=0, batch=1)))
        for _ in range(args.repeats):
            for server in servers:
                speed = asyncio.run(measure(server, args.clients, args.requests, args.batch))
                found.setdefault(server.name, []).append(speed)
            found.setdefault("bare loop", []).append(bare(max(4, args.requests // 4), args.batch))
    show(found, dtype)


def show(found: dict[str, list[float]], dtype: str) -> None:
    ours = statistics.median(found["ours"])
    print(f"texts a second, {dtype}; ratio: ours to it, of the medians")
    for name, speeds in found.items():
        middle = statistics.median(speeds)
        print(f"{name:12} {middle:8.1f}  ({min(speeds):.1f} to {max(speeds):.1f})  {ours / middle:5.2f}")


if __name__ == "__main__":
    main()
