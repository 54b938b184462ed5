"""A system clock that jumps by a year, ahead and back, under a real server at work: what notices, and what must not."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="clocks are set by LD_PRELOAD here")]
YEAR = 365 * 24 * 3600
HERE = Path(__file__).parent
CONFIG = """
[storage]
dir = {folder}
[models.echo]
kind = "echo"
idle_timeout = 3600.0
"""
STREAM = "one two [[tokens=160]] [[delay=0.05]]"  # eight seconds
PATIENCE = 60.0


class Clock:
    """The clock of a server that was started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("there is no C compiler to make a clock with")
        library, self._file = folder / "clock.so", folder / "clock"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "clock.c", "-ldl"], check=True)
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "TEST_CLOCK": str(self._file)}

    def set(self, ahead: int) -> None:
        """So many seconds ahead of the real one."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("=q", ahead))


class World:
    """A server whose clock is in the test's hand, with keys of several kinds."""

    def __init__(self, serve: Any, folder: Path) -> None:
        self.clock = Clock(folder)
        self._config = folder / "config.toml"
        self._config.write_text(CONFIG.format(folder=json.dumps(str(folder / "kept"))))
        self._command = serve.__init__.__globals__["COMMAND"]
        self.free = self.key()
        self.counted = [self.key("--requests-per-minute", "3") for _ in (YEAR, -YEAR)]
        self.brief = self.key("--expires", "12h")
        self.server = serve(self._config, folder, env=self.clock.environment)

    def key(self, *more: str) -> str:
        command = [self._command, "key", "create", "--config", self._config, *more]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        return str(re.search(r"sk-[\w-]+", made.stdout)[0])  # type: ignore[index]

    def ask(self, path: str, key: str, body: Any = None, *, method: str = "POST") -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.request(method, f"{self.server.base_url}{path}", json=body, headers=headers, timeout=PATIENCE)

    def chat(self, key: str) -> httpx2.Response:
        return self.ask("/chat/completions", key, {"model": "echo", "messages": [{"role": "user", "content": "Hi"}]})

    def link(self) -> str:
        made = self.ask("/images/generations", self.free, {"model": "echo", "prompt": "sea", "response_format": "url"})
        return str(made.raise_for_status().json()["data"][0]["url"])

    def video(self, **body: Any) -> str:
        order = {"model": "echo", "prompt": "sea", "size": "64x48", "frames": 4, "fps": 4, **body}
        return str(self.ask("/videos", self.free, order).raise_for_status().json()["id"])

    def status(self, video: str) -> str:
        seen = self.ask(f"/videos/{video}", self.free, method="GET").json()
        return str(seen.get("status", seen))

    def completed(self, video: str) -> bool:
        deadline = time.monotonic() + PATIENCE
        while (status := self.status(video)) not in ("completed", "failed") and time.monotonic() < deadline:
            time.sleep(0.1)
        return status == "completed"


class Streaming:
    """A stream that is read beside the test."""

    def __init__(self, world: World) -> None:
        self.events: list[str] = []
        self._world = world
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        while len(self.events) < 3:
            time.sleep(0.01)

    def _read(self) -> None:
        body = {"model": "echo", "messages": [{"role": "user", "content": STREAM}], "stream": True}
        headers = {"authorization": f"Bearer {self._world.free}"}
        url = f"{self._world.server.base_url}/chat/completions"
        with httpx2.stream("POST", url, json=body, headers=headers, timeout=PATIENCE) as answer:
            self.events.extend(line for line in answer.iter_lines() if line)

    def is_whole(self) -> bool:
        self._thread.join(PATIENCE)
        return self.events[-1] == "data: [DONE]" and len(self.events) > 160 and not any("error" in line for line in self.events)


@pytest.fixture(scope="module")
def running(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(serve, tmp_path_factory.mktemp("clock"))
    yield world
    assert world.server.stop() == 0, world.server.log.read_text()


@pytest.fixture
def world(running: World) -> World:
    running.clock.set(0)
    return running


def test_the_server_s_clock_is_the_test_s(world: World) -> None:
    """Else the others would show nothing."""
    for ahead in (0, YEAR, -YEAR):
        world.clock.set(ahead)
        created = world.chat(world.free).json()["created"]
        assert abs(created - time.time() - ahead) < PATIENCE


@pytest.mark.parametrize("jump", [YEAR, -YEAR], ids=["ahead", "back"])
def test_what_is_under_way_does_not_notice(world: World, jump: int) -> None:
    """A stream, a job, deadlines, heartbeats of workers, and the worker itself."""
    assert world.chat(world.free).status_code == 200
    streaming, job = Streaming(world), world.video(prompt="[[delay=0.1]] sea", frames=40, fps=10)
    for ahead in (jump, 0, jump):
        world.clock.set(ahead)
        assert world.chat(world.free).status_code == 200
        time.sleep(1.0)
    assert streaming.is_whole()
    assert world.completed(job)
    log = world.server.log.read_text()
    assert log.count("echo is ready") == 1
    assert "Traceback" not in log


@pytest.mark.parametrize("jump", [YEAR, -YEAR], ids=["ahead", "back"])
def test_a_limit_is_neither_lifted_nor_prolonged(world: World, jump: int) -> None:
    key = world.counted.pop()
    assert [world.chat(key).status_code for _ in range(3)] == [200] * 3
    for ahead in (0, jump, 0):
        world.clock.set(ahead)
        refused = world.chat(key)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 61
    time.sleep(int(refused.headers["retry-after"]))
    assert world.chat(key).status_code == 200


def test_what_has_a_date_is_over_when_the_clock_says_so_and_a_key_lives_again_when_it_is_set_right(world: World) -> None:
    link, video = world.link(), world.video()
    assert world.completed(video)
    assert (httpx2.get(link).status_code, world.chat(world.brief).status_code) == (200, 200)
    world.clock.set(YEAR)
    assert (httpx2.get(link).status_code, world.chat(world.brief).status_code) == (404, 401)
    assert world.status(video) != "completed"
    assert world.chat(world.free).status_code == 200
    made_ahead = world.link()
    assert httpx2.get(made_ahead).status_code == 200
    world.clock.set(0)
    assert world.chat(world.brief).status_code == 200
    assert httpx2.get(made_ahead).status_code == 200


def test_what_has_a_date_lives_longer_while_the_clock_is_behind(world: World) -> None:
    world.clock.set(-YEAR)
    link, video = world.link(), world.video()
    assert world.completed(video)
    assert (httpx2.get(link).status_code, world.chat(world.brief).status_code) == (200, 200)
    world.clock.set(0)
    assert httpx2.get(link).status_code == 404
    assert world.status(video) != "completed"
    assert world.completed(world.video())
