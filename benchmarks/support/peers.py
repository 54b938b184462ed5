"""Gateways to be measured: ours as users start it, and others as their own documentation does, each on one core."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from support.asking import Question

from openai_compat.auth import hash_key

COMMAND = Path(sys.executable).with_name("openai-compat")
KEY = "sk-benchmark-0123456789abcdef"
WITH_KEY = {"authorization": f"Bearer {KEY}"}
PATIENCE = 120.0
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""
LITELLM = """
model_list:
  - model_name: mock
    litellm_params: {{ model: openai/mock, api_base: "{base}", api_key: unused }}
general_settings: {{ master_key: {key} }}
"""
OURS = """
[upstreams.mock]
base_url = "{base}"
usage = {usage}
models = {{ mock = {{}} }}
"""
LIMITED = """
[auth]
keys = ["{key}"]
[metering]
tokens_per_minute = 1000000000
tokens_per_day = 1000000000
cost_per_day = 1000000
"""


class Peer(Struct, frozen=True, kw_only=True):
    """A running gateway. ``share`` of the work is enough to measure it; a slow one is given less."""

    name: str
    pid: int
    question: Question
    share: float = 1.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def base_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


@contextmanager
def process(
    command: Sequence[str | Path], port: int, core: int, folder: Path, environ: Mapping[str, str] = {}
) -> Iterator[int]:
    """The process id of ``command``, run on ``core`` until the block ends, once it listens on ``port``."""
    log = folder / "log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)], env={**os.environ, **environ}, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            if started.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield started.pid
    finally:
        started.terminate()
        started.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def mock_upstream(core: int, chunks: int) -> Iterator[int]:
    """The port of the upstream."""
    port, script = free_port(), Path(__file__).with_name("mock_upstream.py")
    with folder() as place, process([sys.executable, script, str(port), str(chunks)], port, core, place):
        yield port


@contextmanager
def gateway(config: str, core: int) -> Iterator[tuple[int, int]]:
    """The installed command with this configuration: its process id, and its port."""
    port = free_port()
    with folder() as place:
        (place / "config.toml").write_text(config)
        command = [COMMAND, "serve", "--config", place / "config.toml", "--port", str(port), "--no-pull"]
        with process(command, port, core, place) as pid:
            yield pid, port


@contextmanager
def ours(upstream: int, core: int, *, metered: bool) -> Iterator[Peer]:
    """``metered``: with a key, limits, and usage asked of the upstream; else without any of them."""
    text = OURS.format(base=base_of(upstream), usage="true" if metered else "false")
    with gateway(text + (LIMITED.format(key=hash_key(KEY)) if metered else ""), core) as (pid, port):
        name = "ours, metered" if metered else "ours"
        yield Peer(name=name, pid=pid, question=Question(base_of(port), WITH_KEY if metered else {}))


@contextmanager
def nginx(path: Path, upstream: int, core: int) -> Iterator[Peer]:
    port = free_port()
    with folder() as place:
        (place / "conf").write_text(NGINX.format(folder=place, upstream=upstream, port=port))
        command = [path, "-c", place / "conf", "-p", place, "-e", place / "errors"]
        with process(command, port, core, place) as pid:
            yield Peer(name="nginx", pid=pid, question=Question(base_of(port)))


@contextmanager
def litellm(path: Path, upstream: int, core: int) -> Iterator[Peer]:
    port = free_port()
    with folder() as place:
        (place / "config.yaml").write_text(LITELLM.format(base=base_of(upstream), key=KEY))
        command = [path, "--config", place / "config.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        environ = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
            "PATH": f"{path.parent}:{os.environ['PATH']}",
        }
        with process(command, port, core, place, environ) as pid:
            yield Peer(name="LiteLLM", pid=pid, question=Question(base_of(port), WITH_KEY), share=0.1)


@contextmanager
def portkey(path: Path, upstream: int, core: int) -> Iterator[Peer]:
    port = free_port()
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": base_of(upstream), **WITH_KEY}
    with folder() as place:
        command = ["node", path, f"--port={port}", "--headless"]
        environ = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
        with process(command, port, core, place, environ) as pid:
            yield Peer(name="Portkey", pid=pid, question=Question(base_of(port), headers), share=0.3)
