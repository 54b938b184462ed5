"""Starts a server of models that only repeat, and lets schemathesis ask it what its OpenAPI document allows, and other things.

    python tests/fuzz/api.py [FLAGS OF `schemathesis run`]

Everything is checked but ``positive_data_acceptance``: that a picture is one, or a text not empty, no schema says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler

from openai_compat.app import ADMIN_ROUTES
from openai_compat.http.openapi import openapi_config

HERE = Path(__file__).parent
PATIENCE = 60.0
BEYOND_SCHEMAS = "positive_data_acceptance"
REVOKED = f"{BEYOND_SCHEMAS},use_after_free"
LISTENING = re.compile(r"(http://[^\s/]+:\d+)/v1")
CONFIG = """
[server]
request_timeout = 20.0
max_body = "4MiB"
cache_dir = "{folder}/cache"
[auth]
keys = ["sha256:{digest}"]
[admin]
listen = "{admin}"
[storage]
dir = "{folder}/store"
[jobs]
max_waiting = 1000
[models.echo]
source = "{folder}/nothing"
kind = "echo"
"""
SETTINGS = """
hooks = "api_hooks"
warnings = false
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 408, 409, 413, 415, 429]
"""


def main(flags: list[str]) -> int:
    key = secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory() as name, serving(Path(name), key) as (origin, admin):
        folder = Path(name)
        (folder / "schemathesis.toml").write_text(SETTINGS)
        (folder / "admin.json").write_text(json.dumps(admin_document()))
        clients = ask(folder, key, f"{origin}/schema/openapi.json", *flags)
        # A revoked key is still told of, as one that was.
        operators = ask(folder, operators_key(folder), "admin.json", "--url", admin, *flags, beyond=REVOKED)
    return clients or operators


def ask(folder: Path, key: str, *words: str, beyond: str = BEYOND_SCHEMAS) -> int:
    """``beyond``: checks of what no schema can say, which are left out."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", *words, "-H", f"Authorization: Bearer {key}"]
    command += ["--checks", "all", "--exclude-checks", beyond, "--request-timeout", "25"]
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.run([*command, "--continue-on-failure"], cwd=folder, env=env).returncode


def admin_document() -> dict[str, Any]:
    """The operators' listener shows no document of its own."""
    handlers = [each for controller in ADMIN_ROUTES for each in vars(controller).values() if isinstance(each, BaseRouteHandler)]
    asked = [(name, told) for each in handlers for name, told in each.fn.__annotations__.items()]
    names = {name for name, told in asked if str(told).startswith("NamedDependency")}
    dependencies = {name: Provide(lambda: None, sync_to_thread=False) for name in names}
    app = Litestar(list(ADMIN_ROUTES), dependencies=dependencies, openapi_config=openapi_config("1"))
    return app.openapi_schema.to_schema()


def operators_key(folder: Path) -> str:
    words = [sys.executable, "-m", "openai_compat", "key", "create", "--scope", "admin", "--config", "config.toml", "--json"]
    made = json.loads(subprocess.run(words, cwd=folder, check=True, stdout=subprocess.PIPE).stdout)
    return next(value for value in made.values() if isinstance(value, str) and value.startswith("sk-"))


@contextmanager
def serving(folder: Path, key: str) -> Iterator[tuple[str, str]]:
    """The origins of a server of its own, clients' and operators', which must be there to the end."""
    (folder / "nothing").mkdir()
    digest = hashlib.sha256(key.encode()).hexdigest()
    with socket.create_server(("127.0.0.1", 0)) as found:
        admin = f"127.0.0.1:{found.getsockname()[1]}"
    (folder / "config.toml").write_text(CONFIG.format(folder=folder, digest=digest, admin=admin))
    log = folder / "log"
    words = [sys.executable, "-m", "openai_compat", "serve", "--config", str(folder / "config.toml"), "--port", "0"]
    with log.open("wb") as said:
        server = subprocess.Popen(words, cwd=folder, stdout=said, stderr=said, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        yield origin_of(server, log), f"http://{admin}"
        if server.poll() is not None:
            raise SystemExit(f"the server has ended:\n{log.read_text()[-2000:]}")
    finally:
        server.terminate()
        server.wait(60)
        unforeseen = [line for line in log.read_text().splitlines() if "Traceback" in line]
        print(f"unforeseen errors in the server's log: {len(unforeseen)}")


def origin_of(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        if found := LISTENING.search(log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
