"""What the relay adds to a request for a model of this machine: processor time and latency, beside a direct call.

    python benchmarks/relay_cost.py [--requests 2000] [--streams 20] [--chunks 200] [--rounds 3]

Three processes, in one run: a trivial worker that answers at once, the gateway's parts around its relay (uvicorn, uvloop,
telemetry, checks, local sender), and this client; all over Unix sockets, one request after the other. The processor time of the
process in question is read before and after each round, and the best round counts. Chunks are sent back to back, one a turn of
the worker's loop, and then a millisecond apart, where each wakes every process up: that costs more than the work, at both ends.
What the whole server costs with an upstream, and other gateways, is measured by ``relay_peers.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvicorn
from litestar import Litestar, post

from handlers.types import Analysis
from openai_compat.config import Config
from openai_compat.gateway.answer_cache import AnswerCache
from openai_compat.gateway.checks import Checks
from openai_compat.gateway.local import LocalSender
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.order import Choice, Destination, LocalTarget
from openai_compat.gateway.relay import Relay
from openai_compat.gateway.replica import WorkerReplica
from openai_compat.gateway.routing.dispatcher import Router
from openai_compat.grants import Grant
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.front import Front
from openai_compat.metrics import Metrics
from openai_compat.telemetry import Telemetry
from schemas.chat import ChatCompletionRequest

PATH = "/v1/chat/completions"
CHUNK = b'data: {"id": "chatcmpl-x", "object": "chat.completion.chunk", "choices": [{"delta": {"content": "hello "}}]}\n\n'
WHOLE = json.dumps({"id": "chatcmpl-x", "choices": [{"message": {"role": "assistant", "content": "hello " * 20}}]}).encode()
BODY = {"model": "m", "messages": [{"role": "user", "content": "Say hello twenty times, please."}]}


def serve_upstream(path: str, chunks: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        stream = b'"stream"' in body
        kind, length = (
            (b"text/event-stream", []) if stream else (b"application/json", [(b"content-length", b"%d" % len(WHOLE))])
        )
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), *length]})
        for _ in range(chunks if stream else 0):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            await asyncio.sleep(0.001 if b'"seed"' in body else 0)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n" if stream else WHOLE})

    uvicorn.run(app, uds=path, log_config=None, access_log=False, lifespan="off")


class Everywhere:
    """A catalog of one model, and a pool with one replica of it that is always ready and never given up."""

    ids = ("m",)
    model_id = public_name = "m"
    mode = None
    request_id = "r"

    def __init__(self, path: str) -> None:
        self.replica = WorkerReplica(path)

    def find(self, name: str, grant: Grant) -> Destination:
        return Destination(public_name=name, choices=(Choice(target=LocalTarget(model_id=name)),))

    def resolve(self, name: str) -> Everywhere:
        return self

    def analysis(self, model_id: str) -> Analysis:
        facts = {"architecture": "x", "parameters": 1, "dtype": "x", "bytes_per_dtype": {}, "load_bytes": 1}
        return Analysis(**facts, capabilities=("generate_text",))

    async def acquire(self, model_id: str, *, wait: float | None = None, request_id: str = "r") -> Everywhere:
        return self

    def leave(self) -> None: ...


def serve_gateway(path: str, upstream: str) -> None:
    @post(PATH, opt={"endpoint": Endpoint(ChatCompletionRequest, lambda request: "generate_text")})
    async def chat() -> None: ...

    config, everywhere = Config(), Everywhere(upstream)
    checks = Checks(everywhere)
    sender = LocalSender(checks, everywhere)
    router = Router(config, lambda target: sender)
    relay = Relay(config, everywhere, checks, router, Ledger(config.metering), AnswerCache(config.cache))
    front = Front(Litestar([chat], openapi_config=None, logging_config=None), relay.serve)
    uvicorn.run(Telemetry(front, metrics=Metrics()), uds=path, log_config=None, access_log=False)


async def whole(session: aiohttp.ClientSession) -> None:
    async with session.post("http://localhost" + PATH, json=BODY) as answer:
        answer.raise_for_status()
        await answer.read()


async def stream(session: aiohttp.ClientSession, **more: int) -> None:
    async with session.post("http://localhost" + PATH, json={**BODY, "stream": True, **more}) as answer:
        answer.raise_for_status()
        async for _ in answer.content.iter_any():
            pass


async def paced(session: aiohttp.ClientSession) -> None:
    """The upstream takes a seed as the wish for a slow stream."""
    await stream(session, seed=1)


async def measure(path: str, pid: int, call: Callable[[aiohttp.ClientSession], Any], count: int) -> tuple[float, list[float]]:
    """Processor seconds of ``pid`` for one call, and the latencies."""
    latencies = []
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        for _ in range(20):
            await call(session)
        before = sum(psutil.Process(pid).cpu_times()[:2])
        for _ in range(count):
            began = time.perf_counter()
            await call(session)
            latencies.append(time.perf_counter() - began)
        return (sum(psutil.Process(pid).cpu_times()[:2]) - before) / count, latencies


async def best(
    path: str, pid: int, call: Callable[[aiohttp.ClientSession], Any], count: int, rounds: int
) -> tuple[float, float]:
    """The least processor time for one call, and the least median latency."""
    results = [await measure(path, pid, call, count) for _ in range(rounds)]
    return min(cpu for cpu, _ in results), min(statistics.median(times) for _, times in results)


async def compare(upstream: tuple[str, int], gateway: tuple[str, int], options: argparse.Namespace) -> None:
    direct, direct_p50 = await best(*upstream, whole, options.requests, options.rounds)
    relayed, relayed_p50 = await best(*gateway, whole, options.requests, options.rounds)
    added = (relayed_p50 - direct_p50) * 1e3
    show("request", direct, relayed)
    for name, call in (("chunk, back to back", stream), ("chunk, 1 ms apart", paced)):
        direct_stream, _ = await best(*upstream, call, options.streams, options.rounds)
        relayed_stream, _ = await best(*gateway, call, options.streams, options.rounds)
        show(name, (direct_stream - direct) / options.chunks, (relayed_stream - relayed) / options.chunks)
    print(f"latency: direct p50 {direct_p50 * 1e3:.2f} ms, relayed p50 {relayed_p50 * 1e3:.2f} ms, added {added:.2f} ms")


def show(what: str, direct: float, relayed: float) -> None:
    print(f"{what}: upstream {direct * 1e6:.1f} µs CPU, gateway {relayed * 1e6:.1f} µs CPU, ratio {relayed / direct:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("requests", 2000), ("streams", 20), ("chunks", 200), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        upstream, gateway = str(Path(folder, "u")), str(Path(folder, "g"))
        processes = [
            context.Process(target=serve_upstream, args=(upstream, options.chunks), daemon=True),
            context.Process(target=serve_gateway, args=(gateway, upstream), daemon=True),
        ]
        for process in processes:
            process.start()
        while not (Path(upstream).exists() and Path(gateway).exists()):
            time.sleep(0.05)
        try:
            asyncio.run(compare((upstream, processes[0].pid), (gateway, processes[1].pid), options))
        finally:
            for process in processes:
                process.terminate()
                process.join()


if __name__ == "__main__":
    main()
