"""Four times as many requests as a model can do: what is accepted stays quick, and the others are told so at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

TAKES = 0.2
CONFIG = f'[workers]\nfork_server = false\n[models.m]\nkind = "echo"\nmax_wait = 0.0\noptions = {{delay = {TAKES}}}\n'
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
Outcome = tuple[int, float, str | None]


@pytest.fixture
def url(start_server: Callable[..., Any], tmp_path: Path) -> str:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    return f"{start_server(config).base_url}/chat/completions"


def test_an_overload_is_refused_at_once_and_what_is_accepted_takes_twice_as_long_at_most(url: str) -> None:
    async def ask(session: aiohttp.ClientSession) -> Outcome:
        began = time.perf_counter()
        async with session.post(url, json=BODY) as answer:
            await answer.read()
            return answer.status, time.perf_counter() - began, answer.headers.get("retry-after")

    async def scenario() -> tuple[list[Outcome], list[Outcome]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            alone = [await ask(session) for _ in range(10)]
            asked = []
            for _ in range(120):
                asked.append(asyncio.create_task(ask(session)))
                await asyncio.sleep(TAKES / 4)
            return alone[1:], await asyncio.gather(*asked)

    alone, flood = asyncio.run(scenario())
    unloaded = max(seconds for _, seconds, _ in alone)
    accepted = sorted(seconds for status, seconds, _ in flood[20:] if status == 200)
    refused = sorted(seconds for status, seconds, _ in flood if status == 429)
    assert {status for status, _, _ in flood} == {200, 429}
    assert len(accepted) > 10
    assert len(refused) > 40
    assert all(hint for status, _, hint in flood if status == 429)
    assert accepted[int(0.9 * len(accepted))] < 2.5 * unloaded  # twice, and what a busy machine adds
    assert refused[len(refused) // 2] < unloaded / 4
