"""Requests of every kind that a relay meets, each with what counts as a right answer to it."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

MESSAGES = [{"role": "user", "content": "Say hello twenty times, please."}]
FILE = bytes(range(256)) * 2048
BROKEN = ("cut", "garbage", "empty", "error", "busy")
PATIENCE = 30.0


class Wrong(Exception):
    """An answer that the request should not have had."""


class Traffic:
    """Requests to ``base``; ``seen`` counts what became of them, by kind."""

    def __init__(self, session: aiohttp.ClientSession, base: str, headers: dict[str, str]) -> None:
        self._session = session
        self._base = base
        self._headers = headers
        self._random = random.Random(6)
        self.seen: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.whole: 8, self.stream: 8, self.counted: 4, self.vectors: 4, self.upload: 2, self.route: 6, self.refused: 3,
            self.left_stream: 4, self.left_whole: 2, self.slow_reader: 1, self.broken: 3, self.broken_stream: 3,
        }  # fmt: skip

    async def one(self) -> None:
        """A request of some kind."""
        (kind,) = self._random.choices(list(self._kinds), self._kinds.values())
        await self.ask(kind)

    async def each(self) -> None:
        """One of every kind, one after the other."""
        for kind in self._kinds:
            await self.ask(kind)

    async def ask(self, kind: Callable[[], Awaitable[None]]) -> None:
        name = getattr(kind, "__name__", "")
        try:
            await asyncio.wait_for(kind(), PATIENCE)
            self.seen[name] += 1
        except (Wrong, aiohttp.ClientError, TimeoutError) as error:
            self.wrong[f"{name}: {type(error).__name__} {str(error)[:160]}"] += 1

    # ---------------------------------------------------------------- what must be answered

    async def whole(self) -> None:
        same(200, *await self._post("/chat/completions", model="mock", messages=MESSAGES))

    async def stream(self, **fields: Any) -> None:
        status, body = await self._post("/chat/completions", model="mock", messages=MESSAGES, stream=True, **fields)
        same(200, status, body)
        if not body.endswith(b"data: [DONE]\n\n") or (b'"prompt_tokens"' in body) != bool(fields):
            raise Wrong(f"{body[-200:]!r}")

    async def counted(self) -> None:
        await self.stream(stream_options={"include_usage": True})

    async def vectors(self) -> None:
        same(200, *await self._post("/embeddings", model="mock", input="Hello."))

    async def route(self) -> None:
        """One of its two targets is ill every few seconds."""
        streams = self._random.random() < 0.5
        same(200, *await self._post("/chat/completions", model="pair", messages=MESSAGES, stream=streams))

    async def upload(self) -> None:
        form = aiohttp.FormData({"model": "mock"})
        form.add_field("file", FILE, filename="a.wav", content_type="audio/wav")
        async with self._session.post(f"{self._base}/audio/transcriptions", data=form, headers=self._headers) as answer:
            same(200, answer.status, await answer.read())

    # ---------------------------------------------------------------- what must be refused

    async def refused(self) -> None:
        """For the gateway's own reasons."""
        same(404, *await self._post("/chat/completions", model="nobody", messages=MESSAGES))
        async with self._session.post(f"{self._base}/chat/completions", data=b"{", headers=self._headers) as answer:
            same(400, answer.status, await answer.read())
        async with self._session.post(f"{self._base}/chat/completions", json={"model": "mock"}) as answer:
            same(401, answer.status, await answer.read())

    async def broken(self) -> None:
        """By an upstream that does not work."""
        status, body = await self._post("/chat/completions", model=self._random.choice(BROKEN), messages=MESSAGES)
        if status < 400 or "error" not in json.loads(body):
            raise Wrong(f"{status} {body[:120]!r}")

    async def broken_stream(self) -> None:
        model = self._random.choice(BROKEN)
        status, body = await self._post("/chat/completions", model=model, messages=MESSAGES, stream=True)
        if b'"error"' not in body or b"[DONE]" in body:
            raise Wrong(f"{model}: {status} {body[-120:]!r}")

    # ---------------------------------------------------------------- who leaves, and who dawdles

    async def left_stream(self) -> None:
        async with self._open(model="mock", seed=1) as answer:
            for _ in range(6):
                await answer.content.readline()
            answer.close()

    async def left_whole(self) -> None:
        asking = asyncio.ensure_future(self._post("/chat/completions", model="idle", messages=MESSAGES))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait({asking})

    async def slow_reader(self) -> None:
        """Takes a little now and then, of more than the sockets on the way can hold, and goes."""
        async with self._open(model="long") as answer:
            for _ in range(20):
                await answer.content.read(512)
                await asyncio.sleep(0.05)
            answer.close()

    def _open(self, **fields: Any) -> Any:
        body = {"messages": MESSAGES, "stream": True, **fields}
        return self._session.post(f"{self._base}/chat/completions", json=body, headers=self._headers)

    async def _post(self, path: str, **body: Any) -> tuple[int, bytes]:
        async with self._session.post(self._base + path, json=body, headers=self._headers) as answer:
            return answer.status, await answer.read()


def same(wanted: int, status: int, body: bytes) -> None:
    """Raises ``Wrong``."""
    if status != wanted:
        raise Wrong(f"{status} {body[:120]!r}")
