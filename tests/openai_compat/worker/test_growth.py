"""A worker keeps nothing of the requests that it has answered, refused or lost."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from itertools import count as numbers
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from handlers import registry
from handlers.types import ModelSpec
from openai_compat.app import create_worker
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import RelayFacts
from openai_compat.worker.runner import Runner
from openai_compat.worker.selftest import load_and_test
from openai_compat.worker.status import Ledger
from openai_compat.worker.track import Track

REQUESTS = 30  # of each kind in one round
ROUNDS = 4
CONTAINERS = frozenset({list, dict, set, deque, Counter, OrderedDict, defaultdict})
CLIP = Path(__file__).parents[3] / "openai_compat" / "bundled" / "shapes-clip"
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
Kinds = dict[str, tuple[str, dict[str, Any], int]]
CHATS: Kinds = {
    "whole": ("/v1/chat/completions", CHAT, 200),
    "streamed": ("/v1/chat/completions", CHAT | {"stream": True}, 200),
    "left": ("/v1/chat/completions", CHAT | {"stream": True}, 200),
    "refused": ("/v1/chat/completions", CHAT | {"max_tokens": -1}, 400),
    "tokenized": ("/tokenize", {"prompt": "Hello"}, 200),
    "unknown": ("/nothing", {}, 404),
}
EMBEDDINGS: Kinds = {
    "embedded": ("/v1/embeddings", {"input": ["a red circle", "a blue square"]}, 200),
    "refused": ("/v1/embeddings", {"input": []}, 400),
}


class Client:
    """Asks the worker as the gateway does, each time under an id of its own; ``left`` reads the head and goes."""

    def __init__(self, app: Track) -> None:
        self._app = app
        self._ids = numbers()

    async def ask(self, kind: str, path: str, body: dict[str, Any], expected: int) -> None:
        data = json.dumps({"model": "m", **body}).encode()
        facts = RelayFacts(request_id=f"req_{next(self._ids):032}", model="m", public_model="m").to_headers()
        headers = {"content-type": "application/json", "content-length": str(len(data)), **facts}
        messages = iter([{"type": "http.request", "body": data, "more_body": False}])
        answered, statuses = asyncio.Event(), []

        async def receive() -> dict[str, Any]:
            if message := next(messages, None):
                return message
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            if kind == "left" or not message.get("more_body", True):
                answered.set()

        await self._app(_scope(path, headers), receive, send)
        assert statuses == [expected], kind


def _scope(path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": None, "server": None, "state": {},
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }  # fmt: skip


async def rounds(spec: ModelSpec, kinds: Kinds, count: Callable[[], int]) -> list[int]:
    """``count`` after each round of requests."""
    handler = registry.create(spec)
    ledger = Ledger(lambda status: None)
    runner = Runner(handler, on_done=ledger.settle, on_usage=ledger.spend)
    ledger.active = lambda: runner.active
    await asyncio.wrap_future(runner.call(lambda: load_and_test(handler, lambda *_: None)))
    client = Client(Track(create_worker(runner, model_id="m", timing=StreamTiming()), ledger, runner.admit))
    counted = []
    try:
        for _ in range(ROUNDS):
            for kind, (path, body, expected) in kinds.items():
                for _ in range(REQUESTS):
                    await client.ask(kind, path, body, expected)
            await _until(lambda: not ledger.open)
            gc.collect()
            counted.append(count())
    finally:
        await runner.close(5.0)
    return counted


def entries() -> int:
    """Of all lists, dicts, sets and queues in this process."""
    return sum(len(kept) for kept in gc.get_objects() if type(kept) in CONTAINERS)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def assert_flat(counted: list[int]) -> None:
    """What is kept of each request of one kind would show in every round; what other threads do, in some."""
    grown = [later - earlier for earlier, later in pairwise(counted[1:])]
    assert min(grown) < REQUESTS // 2, f"more is kept each round: {grown}"


def test_no_memory_is_kept_of_chats_that_are_echoed() -> None:
    """All that stands around a model; libraries of real ones take some more blocks for their first thousand requests."""
    assert_flat(asyncio.run(rounds(ModelSpec(id="m", path="", kind="echo"), CHATS, sys.getallocatedblocks)))


def test_nothing_is_kept_of_the_chats_of_a_text_model(tiny_llama: Path) -> None:
    spec = ModelSpec(id="m", path=str(tiny_llama), kind="transformer", device="cpu", threads=1)
    assert_flat(asyncio.run(rounds(spec, CHATS, entries)))


@pytest.mark.slow
def test_nothing_is_kept_of_what_was_embedded() -> None:
    spec = ModelSpec(id="m", path=str(CLIP), kind="embedding", device="cpu", threads=1)
    assert_flat(asyncio.run(rounds(spec, EMBEDDINGS, entries)))
