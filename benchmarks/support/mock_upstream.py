"""An OpenAI-compatible upstream that costs next to nothing: every answer is ready before it is asked for.

    python benchmarks/support/mock_upstream.py PORT [CHUNKS]

The first part of the path says how it behaves, so that one process is several upstreams: ``/mock/v1/chat/completions`` answers
at once (to a ``seed``: with a millisecond between two chunks), ``/idle`` begins a stream and falls silent, and the others fail,
each in its way.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Send = Callable[[dict[str, Any]], Awaitable[None]]
Act = Callable[[Send, bytes], Awaitable[None]]
JSON, EVENTS = b"application/json", b"text/event-stream"
PACE = 0.001
FLAP = 5.0  # seconds that /flapping is well, and then ill
CHUNKS = 100
LONG = 50_000
NAMES = {"id": "chatcmpl-mock", "created": 1, "model": "mock"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}
WHOLE = json.dumps(
    {
        **NAMES,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello " * 20},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": USAGE,
    }
).encode()
VECTORS = json.dumps(
    {
        "object": "list",
        "model": "mock",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.125] * 384}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
).encode()


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({**NAMES, "object": "chat.completion.chunk", **fields}).encode() + b"\n\n"


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}])


FIRST, MIDDLE, LAST = chunk({"role": "assistant", "content": ""}), chunk({"content": "hello "}), chunk({}, "stop")
PAIR = [MIDDLE, chunk({"content": "again "})]  # some gateways end a stream that says the same thing a hundred times
COUNTED, DONE = event(choices=[], usage=USAGE), b"data: [DONE]\n\n"


async def start(send: Send, kind: bytes, length: int | None = None, status: int = 200) -> None:
    size = [] if length is None else [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *size]})


async def write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def whole(send: Send, body: bytes, *, status: int = 200) -> None:
    await start(send, JSON, len(body), status)
    await write(send, body, more=False)


def parts(body: bytes) -> list[bytes]:
    asked = b'"include_usage":true' in body.replace(b" ", b"")
    return [FIRST, *(PAIR * CHUNKS)[: CHUNKS - 2], LAST, *([COUNTED] if asked else []), DONE]


def streamed(body: bytes) -> bool:
    return b'"stream":true' in body.replace(b" ", b"")


async def at_once(send: Send, body: bytes) -> None:
    if not streamed(body):
        await whole(send, VECTORS if b'"input"' in body else WHOLE)
        return
    slowly = b'"seed"' in body
    await start(send, EVENTS)
    for part in parts(body):
        await write(send, part)
        if slowly:
            await asyncio.sleep(PACE)
    await write(send, b"", more=False)


async def idle(send: Send, body: bytes) -> None:
    if streamed(body):
        await start(send, EVENTS)
        await write(send, FIRST)
    await asyncio.sleep(3600)


async def long(send: Send, body: bytes) -> None:
    """More than all buffers on the way can hold; ends where the reader is too slow or has gone."""
    await start(send, EVENTS)
    for _ in range(LONG):
        await write(send, MIDDLE)
    await write(send, DONE, more=False)


async def cut(send: Send, body: bytes) -> None:
    """Ends in the middle of an event, without the end of the body: the server below closes the connection."""
    await start(send, EVENTS if streamed(body) else JSON, None if streamed(body) else len(WHOLE))
    await write(send, FIRST + MIDDLE[:40] if streamed(body) else WHOLE[:40])


async def garbage(send: Send, body: bytes) -> None:
    await start(send, EVENTS if streamed(body) else JSON)
    await write(send, b"\x00\xff{]<html>\n\n", more=False)


async def empty(send: Send, body: bytes) -> None:
    await whole(send, b"")


async def error(send: Send, body: bytes) -> None:
    await whole(send, b'{"error": {"message": "out of order", "type": "server_error"}}', status=500)


async def busy(send: Send, body: bytes) -> None:
    await whole(send, b'{"error": {"message": "slow down", "type": "rate_limit_error"}}', status=429)


async def flapping(send: Send, body: bytes) -> None:
    await (error if int(time.monotonic() / FLAP) % 2 else at_once)(send, body)


ACTS: dict[str, Act] = {act.__name__: act for act in (idle, long, cut, garbage, empty, error, busy, flapping)}


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    act = ACTS.get(scope["path"].partition("/v1/")[0][1:], at_once)
    if act is not idle:
        await act(send, body)
        return
    silence = asyncio.ensure_future(act(send, body))
    await receive()
    silence.cancel()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        CHUNKS = int(sys.argv[2])
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, lifespan="off", timeout_keep_alive=300)
