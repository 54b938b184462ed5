"""A provider in a thread of the test."""

from __future__ import annotations

import asyncio
import json
import threading

from aiohttp import web

PIECE = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Upstream:
    """Whole answers after ``user`` seconds, else at once; streams of ``max_tokens`` pieces, else until ``enough`` is set."""

    def __init__(self) -> None:
        self.enough = threading.Event()
        self.port = 0
        self._ready = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Upstream:
        self._thread.start()
        self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.enough.set()
        self._end.set()
        self._thread.join()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        while not self._end.is_set():
            await asyncio.sleep(0.02)
        await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            await asyncio.sleep(float(body.get("user", 0)))
            return web.json_response(WHOLE)
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        number = 0
        while not self.enough.is_set() and number < body.get("max_tokens", 10**6):
            await answer.write(piece(str(number)))
            number += 1
            await asyncio.sleep(0.01)
        await answer.write(piece("end") + b"data: [DONE]\n\n")
        return answer


def piece(text: str) -> bytes:
    event = {**PIECE, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return f"data: {json.dumps(event)}\n\n".encode()
