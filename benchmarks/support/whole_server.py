"""The whole server under a soak: models of its own beside the relay, keys with limits, operators, and trouble."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from support.serving import pulled
from support.traffic import MESSAGES, Traffic, Wrong, same

CONFIG = """
[admin]
listen = "unix:{folder}/admin.sock"
[storage]
dir = "{folder}/store"
[models.text]
source = "{source}"
[models.clip]
source = "bundled:shapes-clip"
[models.echo]
kind = "echo"
"""
CHANGES = (
    '[models.more]\nkind = "echo"\nidle_timeout = 1.0\n',
    '[routes.more]\ntargets = ["mock"]\n',
    "[this is no configuration",
    "",
)
EXCUSED = frozenset({"worker_died", "model_unavailable", "model_loading", "rate_limit_exceeded"})
RELOAD = 5.0  # seconds between two of each
KILL = 15.0
OPERATE = 5.0
NEW_KEY = 60.0


@contextmanager
def place() -> Iterator[Path]:
    """Where the server keeps what it keeps, and serves its operators."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def configuration(folder: Path) -> str:
    return CONFIG.format(folder=folder, source=pulled("smollm2-135m-instruct"))


class WholeTraffic(Traffic):
    """Requests to the models of this machine, too. A killed worker excuses what it was asked."""

    def __init__(self, session: aiohttp.ClientSession, base: str, headers: dict[str, str], limited: str) -> None:
        super().__init__(session, base, headers)
        self._limited = {"authorization": f"Bearer {limited}"}
        self._kinds |= {
            self.text: 4, self.text_stream: 4, self.clip: 3, self.echo: 6, self.echo_stream: 6, self.left_echo: 3,
            self.limited: 3, self.bad: 3,
        }  # fmt: skip

    async def text(self) -> None:
        _served(*await self._post("/chat/completions", model="text", messages=MESSAGES, max_tokens=4))

    async def text_stream(self) -> None:
        _streamed(*await self._post("/chat/completions", model="text", messages=MESSAGES, max_tokens=4, stream=True))

    async def clip(self) -> None:
        _served(*await self._post("/embeddings", model="clip", input=["a red circle"] * 4))

    async def echo(self) -> None:
        _served(*await self._post("/chat/completions", model="echo", messages=MESSAGES))

    async def echo_stream(self) -> None:
        _streamed(*await self._post("/chat/completions", model="echo", messages=MESSAGES, stream=True))

    async def left_echo(self) -> None:
        said = [{"role": "user", "content": "one two [[tokens=500]] [[delay=0.005]]"}]
        async with self._open(model="echo", messages=said) as answer:
            await answer.content.readline()
            answer.close()

    async def limited(self) -> None:
        """With a key that may ask once a second."""
        body = {"model": "mock", "messages": MESSAGES}
        async with self._session.post(f"{self._base}/chat/completions", json=body, headers=self._limited) as answer:
            data = await answer.read()
            if answer.status != 429:
                same(200, answer.status, data)
            elif "retry-after" not in answer.headers:
                raise Wrong("a 429 that does not say when to come again")

    async def bad(self) -> None:
        same(400, *await self._post("/chat/completions", model="echo", messages=MESSAGES, max_tokens=-1))
        same(400, *await self._post("/embeddings", model="clip", input=[]))
        same(404, *await self._post("/nothing", model="echo"))


class Trouble:
    """Reloads, killed workers and operators' requests, each every few seconds, until it is cancelled."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder
        command = psutil.Process(pid).cmdline()
        self._config = Path(command[command.index("--config") + 1])
        self._text = self._config.read_text()
        self.done: dict[str, int] = {"reloads": 0, "kills": 0, "operators' requests": 0}

    async def make(self) -> None:
        """All of it; what it leaves is the configuration as it was."""
        try:
            await asyncio.gather(self._reload(), self._kill(), self._operate())
        finally:
            self._config.write_text(self._text)

    async def new_key(self, **fields: Any) -> dict[str, Any]:
        status, body = await self.ask("POST", "/keys", fields)
        same(200, status, body)
        found: dict[str, Any] = json.loads(body)
        return found

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """The operators' listener."""
        connector = aiohttp.UnixConnector(str(self._folder / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://localhost/admin{path}", json=body) as answer,
        ):
            self.done["operators' requests"] += 1
            return answer.status, await answer.read()

    async def settle(self) -> None:
        """As it was."""
        same(200, *await self.ask("POST", "/reload"))

    async def _reload(self) -> None:
        for change in itertools.cycle(CHANGES):
            await asyncio.sleep(RELOAD)
            beside = self._config.with_suffix(".new")
            beside.write_text(self._text + change)
            beside.replace(self._config)
            self.done["reloads"] += 1
            if self.done["reloads"] % 2:
                os.kill(self._pid, signal.SIGHUP)
                continue
            status, body = await self.ask("POST", "/reload")
            if (status == 200) == (change == CHANGES[2]):
                raise Wrong(f"a reload: {status} {body[:200]!r}")

    async def _kill(self) -> None:
        """The youngest worker: that of the echo, since it was the last to be killed."""
        while True:
            await asyncio.sleep(KILL)
            if found := workers(self._pid):
                max(found, key=lambda worker: worker.create_time()).kill()
                self.done["kills"] += 1

    async def _operate(self) -> None:
        for turn in itertools.count():
            if turn % int(NEW_KEY / OPERATE) == 0:
                key = await self.new_key(name="soak")
                same(200, *await self.ask("DELETE", f"/keys/{key['id']}"))
            same(200, *await self.ask("GET", "/keys?limit=5"))
            await asyncio.sleep(OPERATE)


def workers(pid: int) -> list[psutil.Process]:
    """The processes that hold models: children of the fork server, and none of what they start themselves."""
    return [worker for server in psutil.Process(pid).children() for worker in _alive(server)]


def _alive(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def _served(status: int, body: bytes) -> None:
    if status != 200 and _code(body) not in EXCUSED:
        raise Wrong(f"{status} {body[:120]!r}")


def _streamed(status: int, body: bytes) -> None:
    if status != 200:
        _served(status, body)
    elif not body.endswith(b"data: [DONE]\n\n") and _code(body.strip().rpartition(b"data: ")[2]) not in EXCUSED:
        raise Wrong(f"{body[-200:]!r}")


def _code(body: bytes) -> object:
    try:
        return json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
