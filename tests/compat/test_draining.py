"""SIGTERM under load: what had begun is finished or told, the process ends well, and nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import psutil
import pytest

from tests.compat.provider import Upstream

CLIENTS = 20
BEFORE = "before the answer"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


def write(folder: Path, upstream: Upstream, server: str) -> Path:
    config = folder / "config.toml"
    config.write_text(
        f'[server]\n{server}\n[workers]\nfork_server = false\n[models.echo]\nkind = "echo"\n[upstreams.mock]\n'
        f'base_url = "http://127.0.0.1:{upstream.port}/v1"\nmodels = {{ m = {{}} }}\n'
    )
    return config


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}


async def whole(session: aiohttp.ClientSession, url: str, asked: dict[str, Any]) -> str:
    """How it ended, in a word. What is neither whole nor an error is a ``ClientPayloadError``."""
    try:
        answer = await session.post(url, json=asked)
    except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        return BEFORE
    async with answer:
        data = await answer.read()
        if not asked.get("stream") or answer.status != 200:
            found = json.loads(data)
            return "whole" if answer.status == 200 else str(found["error"]["code"])
        last = data.decode().strip().rpartition("data: ")[2]
        return "whole" if last == "[DONE]" else str(json.loads(last)["error"]["code"])


async def client(number: int, url: str, seen: list[str]) -> None:
    """Asks until nobody answers: half of the clients with a new connection each time."""
    kinds = (body("m", user="0.05"), body("m", stream=True, max_tokens=30), body("echo"), body("m", stream=True))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=number % 2 == 0)) as session:
        while not seen or seen[-1] != BEFORE:
            seen.append(await whole(session, url, kinds[number % 4]))


def test_each_answer_that_began_is_whole_or_ends_by_an_error_event(serve: Any, tmp_path: Path, upstream: Upstream) -> None:
    server = serve(write(tmp_path, upstream, "shutdown_grace = 1.0"), tmp_path)
    url = f"{server.base_url}/chat/completions"
    assert httpx2.post(url, json=body("echo"), timeout=60).status_code == 200
    family = psutil.Process(server.process.pid).children(recursive=True)
    seen: list[list[str]] = [[] for _ in range(CLIENTS)]

    async def scenario() -> None:
        clients = [asyncio.create_task(client(number, url, seen[number])) for number in range(CLIENTS)]
        while sum(map(len, seen)) < 100:
            await asyncio.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)

    asyncio.run(scenario())
    words = Counter(word for words in seen for word in words)
    assert set(words) <= {"whole", "shutting_down", BEFORE}
    # The endless streams are told, all others are whole; each client is refused once, and then asks no more.
    assert words["shutting_down"] >= CLIENTS // 4
    assert words[BEFORE] == CLIENTS
    assert server.process.wait(30) == 0
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    log = server.log.read_text()
    assert "Traceback" not in log
    assert log.splitlines()[-1].endswith("stopped")


def test_a_second_signal_does_not_wait_for_the_grace(serve: Any, tmp_path: Path, upstream: Upstream) -> None:
    server = serve(write(tmp_path, upstream, "shutdown_grace = 600.0\ndrain_delay = 600.0"), tmp_path)
    with httpx2.stream("POST", f"{server.base_url}/chat/completions", json=body("m", stream=True), timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        wait_until_draining(server)
        server.process.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert server.process.wait(30) == 0


def wait_until_draining(server: Any) -> httpx2.Response:
    deadline = time.monotonic() + 30
    while (answer := httpx2.get(f"{server.origin}/health/ready")).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def test_while_load_balancers_learn_of_it_requests_are_taken_and_it_is_not_ready(
    serve: Any, tmp_path: Path, upstream: Upstream
) -> None:
    server = serve(write(tmp_path, upstream, "drain_delay = 1.0"), tmp_path)
    assert httpx2.get(f"{server.origin}/health/ready").json() == {"status": "ok"}
    server.process.send_signal(signal.SIGTERM)
    answer = wait_until_draining(server)
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    answer = httpx2.post(f"{server.base_url}/chat/completions", json=body("m"))
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert server.process.wait(30) == 0
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", httpx2.URL(server.origin).port), timeout=5)
