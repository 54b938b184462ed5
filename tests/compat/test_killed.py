"""Processes of the server that are killed under load and without: what clients see, and how soon they are served again."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import httpx2
import psutil
import pytest

CLIENTS = 20
CONFIG = """
[server]
first_byte_timeout = 0.2
[storage]
dir = "store"
[models.echo]
kind = "echo"
[workers]
fork_server = {forks}
restart_backoff = 0.3
"""


def start(serve: Callable[..., Any], folder: Path, *, forks: bool) -> Any:
    config = folder / "config.toml"
    config.write_text(CONFIG.format(forks=str(forks).lower()).replace('"store"', json.dumps(str(folder / "store"))))
    return serve(config, folder)


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    running = start(serve, tmp_path_factory.mktemp("killed"), forks=False)
    yield running
    assert running.stop() == 0


def body(text: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}


def ask(server: Any, **fields: Any) -> httpx2.Response:
    return httpx2.post(f"{server.base_url}/chat/completions", json=body(**fields), timeout=60)


def worker_of(server: Any) -> psutil.Process:
    (worker,) = psutil.Process(server.process.pid).children()
    return worker


async def outcome(session: aiohttp.ClientSession, url: str, asked: dict[str, Any]) -> str:
    async with session.post(url, json=asked) as answer:
        data = (await answer.read()).decode().strip()
        if asked.get("stream") and answer.status == 200:
            last = data.rpartition("data: ")[2]
            return "whole" if last == "[DONE]" else f"event {json.loads(last)['error']['code']}"
        return "whole" if answer.status == 200 else f"{answer.status} {json.loads(data)['error']['code']}"


def test_a_killed_worker_costs_only_what_it_was_working_on(server: Any) -> None:
    """Twenty clients at once, of whom one is being answered and the others wait, and new ones come in while it is dead."""
    url = f"{server.base_url}/chat/completions"
    assert ask(server).status_code == 200
    slow = body("one two [[tokens=400]] [[delay=0.01]]", stream=True)
    again: list[float] = []

    async def scenario() -> list[str]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            busy = asyncio.create_task(outcome(session, url, slow))
            await asyncio.sleep(0.3)
            waiting = [asyncio.create_task(outcome(session, url, body())) for _ in range(CLIENTS)]
            await asyncio.sleep(0.3)
            worker_of(server).kill()
            killed = time.monotonic()
            new = [asyncio.create_task(outcome(session, url, body())) for _ in range(CLIENTS)]
            first = await asyncio.gather(*new)
            again.append(time.monotonic() - killed)
            return [await busy, *(await asyncio.gather(*waiting)), *first]

    seen = asyncio.run(scenario())
    assert seen[0] == "event worker_died"
    assert Counter(seen[1:]) == {"whole": 2 * CLIENTS}
    assert again[0] < 15.0


def test_a_worker_that_was_idle_is_replaced_before_anybody_notices(server: Any) -> None:
    assert ask(server).status_code == 200
    worker_of(server).kill()
    assert ask(server).status_code == 200


def test_a_model_that_dies_again_and_again_is_tried_less_and_less_often(server: Any) -> None:
    """Each time with a request in its hands, so that it never comes to an answer."""
    seen = []
    for _ in range(4):
        endless = body("a [[first_delay=60]]", stream=True)
        with httpx2.stream("POST", f"{server.base_url}/chat/completions", json=endless, timeout=60) as answer:
            seen.append(answer.status_code)
            if answer.status_code == 200:
                worker_of(server).kill()
                assert "worker_died" in answer.read().decode()
            else:
                assert answer.headers["retry-after"]
                assert json.loads(answer.read())["error"]["code"] == "model_unavailable"
    time.sleep(3.0)
    assert ask(server).status_code == 200


@pytest.mark.parametrize("forks", [pytest.param(True, marks=pytest.mark.slow), False], ids=["forked", "spawned"])
def test_a_killed_gateway_leaves_no_process_and_is_started_again(
    serve: Callable[..., Any], tmp_path: Path, forks: bool
) -> None:
    running = start(serve, tmp_path, forks=forks)
    assert ask(running).status_code == 200
    family = psutil.Process(running.process.pid).children(recursive=True)
    assert family
    running.process.kill()
    running.process.wait(30)
    assert psutil.wait_procs(family, timeout=10)[1] == []
    again = start(serve, tmp_path, forks=forks)
    assert ask(again).status_code == 200
    assert again.stop() == 0


@pytest.mark.slow
def test_a_killed_fork_server_is_started_again_and_its_models_go_on(serve: Callable[..., Any], tmp_path: Path) -> None:
    running = start(serve, tmp_path, forks=True)
    assert ask(running).status_code == 200
    (forks,) = psutil.Process(running.process.pid).children()
    (worker,) = forks.children()
    forks.kill()
    assert ask(running).status_code == 200
    worker.kill()
    assert ask(running).status_code == 200
    assert running.stop() == 0


@pytest.mark.slow
def test_a_real_model_is_served_again_as_soon_as_it_can_be_loaded(
    start_server: Callable[..., Any], tmp_path: Path, model_source: str
) -> None:
    """At most five seconds later, or half of the time to load where the machine has much else to do."""
    config = tmp_path / "config.toml"
    config.write_text(f"[models.real]\n{model_source}")
    running = start_server(config)
    asked = {"model": "real", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}

    def answered() -> float:
        began = time.monotonic()
        assert httpx2.post(f"{running.base_url}/chat/completions", json=asked, timeout=300).status_code == 200
        return time.monotonic() - began

    answered()
    loads, agains = [], []
    for _ in range(3):
        while httpx2.post(f"{running.origin}/models/unload", json={"model": "real"}, timeout=60).status_code == 409:
            time.sleep(0.1)  # the worker has not yet said that its request is done
        loads.append(answered())
        (forks,) = psutil.Process(running.process.pid).children()
        (worker,) = [child for child in forks.children() if child.status() != psutil.STATUS_ZOMBIE]
        worker.kill()
        agains.append(answered())
    assert median(agains) <= median(loads) + max(5.0, median(loads) / 2)
