"""CPU per server-sent event of the ways that litestar has to send one, in the same server, one after the other.

    python benchmarks/sse_cost.py [--events 20000] [--rounds 5]

The server is a process of its own (uvicorn, httptools, uvloop, a Unix socket); its CPU time is read before and after each
stream, and the best of the rounds counts. Every stream carries the same events of about 200 bytes, made one a turn of the
event loop as a model makes tokens. ``asgi`` sends them with nothing around and is the floor; it is not told when its client
leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from litestar import Litestar, MediaType, Response, asgi, get
from litestar.response import ServerSentEvent, ServerSentEventMessage, Stream
from litestar.types import Receive, Scope, Send
from sse_starlette import EventSourceResponse

from openai_compat.http.sse import sse

DATA = json.dumps({"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "choices": [{"delta": "x" * 100}]})
FRAME = f"data: {DATA}\n\n".encode()
WAYS = {
    "eventsource": "sse-starlette EventSourceResponse",
    "serversentevent": "litestar ServerSentEvent",
    "stream": "litestar Stream of bytes",
    "ours": "openai_compat.http.sse",
    "asgi": "raw ASGI, the floor",
}


def create_app(count: int) -> Litestar:
    async def frames() -> AsyncIterator[bytes]:
        for _ in range(count):
            await asyncio.sleep(0)
            yield FRAME

    async def messages() -> AsyncIterator[ServerSentEventMessage]:
        for _ in range(count):
            await asyncio.sleep(0)
            yield ServerSentEventMessage(data=DATA)

    @get("/eventsource")
    async def eventsource() -> EventSourceResponse:
        return EventSourceResponse(frames())

    @get("/serversentevent")
    async def serversentevent() -> ServerSentEvent:
        return ServerSentEvent(messages())

    @get("/stream")
    async def stream() -> Stream:
        return Stream(frames(), media_type="text/event-stream")

    @get("/ours")
    async def ours() -> Response[None]:
        return await sse(frames())

    @asgi("/asgi", copy_scope=True)
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for frame in frames():
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @get("/cpu", media_type=MediaType.TEXT)
    async def cpu() -> str:
        return str(time.process_time())

    handlers = [eventsource, serversentevent, stream, ours, raw, cpu]
    return Litestar(handlers, openapi_config=None, logging_config=None)


def serve(path: str, count: int) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    config = uvicorn.Config(create_app(count), http="httptools", log_config=None, access_log=False)
    uvicorn.Server(config).run([listener])


async def fetch(path: str, url: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET {url} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode())
    body = await reader.read()
    writer.close()
    return body


def cpu_seconds(path: str, url: str, count: int) -> float:
    def now() -> float:
        return float(asyncio.run(fetch(path, "/cpu")).split(b"\r\n\r\n")[1])

    before = now()
    body = asyncio.run(fetch(path, url))
    if body.count(DATA.encode()) != count:
        raise SystemExit(f"{url}: {body.count(DATA.encode())} of {count} events came")
    return now() - before


def wait_for(path: str) -> None:
    while True:
        try:
            asyncio.run(fetch(path, "/cpu"))
        except OSError:
            time.sleep(0.05)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "bench.sock")
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(path, options.events), daemon=True)
        server.start()
        wait_for(path)
        best = dict.fromkeys(WAYS, float("inf"))
        for _ in range(options.rounds):
            for way in WAYS:
                best[way] = min(best[way], cpu_seconds(path, f"/{way}", options.events))
        server.terminate()
        server.join()
    for way, name in WAYS.items():
        each = best[way] / options.events * 1e6
        print(f"{name:36} {each:6.1f} µs an event   {best[way] / best['ours']:5.2f} times ours")


if __name__ == "__main__":
    main()
