"""One real server for all clients: the installed command, the default model, and scripted models beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from handlers.decoding.kernels.compiler import NotBuilt, check

MODEL = "smollm2-135m-instruct"
HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("openai-compat")
LISTENING = re.compile(r"https?://[^\s/]+:\d+")


class Server:
    """A running `openai-compat serve`, its address and its log."""

    def __init__(self, config: Path, cwd: Path, *flags: str, env: dict[str, str] | None = None) -> None:
        self.log = config.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--config", config, "--port", "0", *flags],
                cwd=cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})},
            )
        self.origin = self._wait_until_listening()
        self.base_url = f"{self.origin}/v1"

    def _wait_until_listening(self, patience: float = 300.0) -> str:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := LISTENING.search(self.log.read_text()):
                return found.group()
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "nothing").mkdir()
    config = folder / "config.toml"
    config.write_text((HERE / "config.toml").read_text().replace("@NOTHING@", str(folder / "nothing")))
    running = Server(config, folder)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start further servers, which end with the test."""
    started: list[Server] = []

    def start(config: Path, *flags: str, cwd: Path = tmp_path, env: dict[str, str] | None = None) -> Server:
        started.append(Server(config, cwd, *flags, env=env))
        return started[-1]

    yield start
    assert [running.stop() for running in started] == [0] * len(started)


@pytest.fixture(scope="session")
def serve() -> Callable[..., Server]:
    """Start a server for several tests, who must stop it."""
    return Server


@pytest.fixture(scope="session")
def model_source() -> str:
    """The lines of a configuration that say where the real model comes from."""
    section = (HERE / "config.toml").read_text().partition(f"[models.{MODEL}]\n")[2]
    return section.partition("\n\n")[0] + "\n"


@pytest.fixture(scope="session")
def model() -> str:
    """The real model's id."""
    return MODEL


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    """Plain HTTP, for what the SDKs hide."""
    with httpx2.Client(base_url=server.origin, timeout=120) as client:
        yield client


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(HERE / "node" / name, folder)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def node(server: Server, node_folder: Path) -> Callable[..., dict[str, Any]]:
    """Run one scenario of `node/client.mjs` and give back what it saw."""

    def run(scenario: str, model: str = MODEL) -> dict[str, Any]:
        done = subprocess.run(
            ["node", "client.mjs", server.base_url, model, scenario],
            cwd=node_folder,
            check=True,
            capture_output=True,
            timeout=120,
        )
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    return run


@pytest.fixture(scope="session")
def server_url(server: Server) -> str:
    return server.base_url


@pytest.fixture
def exact_numbers() -> None:
    """Without the kernels a known prefix changes how torch rounds in bfloat16: docs/text-engine.md promises less."""
    try:
        check()
    except NotBuilt as reason:
        pytest.skip(str(reason))
