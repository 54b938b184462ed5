"""What the benchmarks share: our server as a user starts it, the default models' folders, and patience with servers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from openai_compat.gateway.inspect import pull_models
from openai_compat.settings import load

COMMAND = Path(sys.executable).with_name("openai-compat")
LISTENING = re.compile(r"http://[^\s/]+:\d+")
PATIENCE = 300.0


def pulled(model: str) -> str:
    """The folder of a default model, fetched if it is not there."""
    (result,) = pull_models(load(None, {**os.environ, "OPENAI_COMPAT_CONFIG": os.devnull}), [model])
    if result.error:
        sys.exit(result.error)
    return str(result.path)


@contextmanager
def served(config: str) -> Iterator[str]:
    """Run the installed command with this TOML until the block ends; where it listens."""
    with tempfile.TemporaryDirectory() as name:
        path, log = Path(name, "config.toml"), Path(name, "log")
        path.write_text(config)
        with log.open("wb") as output:
            process = subprocess.Popen([COMMAND, "serve", "--config", path, "--port", "0"], stdout=output, stderr=output)
        try:
            while not (found := LISTENING.search(log.read_text())):
                if process.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.05)
            yield found.group()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def until_answered(ask: Callable[[aiohttp.ClientSession], Awaitable[object]]) -> None:
    """Ask until a server that is still starting answers."""
    deadline = time.monotonic() + PATIENCE
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                await ask(session)
                return
            except aiohttp.ClientError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
