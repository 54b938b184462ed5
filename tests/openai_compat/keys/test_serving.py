"""A real server and the command line beside it: keys that one makes, changes and ends, and the SDK uses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

COMMAND = Path(sys.executable).with_name("openai-compat")
PATIENCE = 60.0
SOON = 30.0  # seconds; a second on a machine that has nothing else to do


class Server:
    def __init__(self, folder: Path, *arguments: str, port: int = 0, **more: str) -> None:
        self.folder = folder
        self.environment = environment(folder, **more)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [COMMAND, "serve", "--config", "config.toml", "--port", str(port), "--inline", *arguments],
            cwd=folder,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""
        while not self.url and (line := self.process.stderr.readline()):
            self.lines.append(line)
            if found := re.search(r"listening on (http://[^\s,\"]+/v1)", line):
                self.url = found[1]
        assert self.url, "".join(self.lines)
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr))
        self.reader.start()

    def client(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=PATIENCE)

    def key(self, *arguments: str) -> str:
        """What ``openai-compat key`` prints on standard output."""
        return command(self.folder, self.environment, *arguments)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stderr.close()


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PORT"))}
    return {**kept, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder), **more}


def command(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [COMMAND, "key", *arguments, "--config", "config.toml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "config.toml").write_text(
        '[storage]\ndir = "kept"\n[models.echo]\nsource = ""\nkind = "echo"\n[models.other]\nsource = ""\nkind = "echo"\n'
    )
    server = Server(folder, "--log-format", "json")
    yield server
    server.stop()


def say(client: openai.OpenAI, model: str = "echo") -> str | None:
    return (
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}]).choices[0].message.content
    )


def becomes(wanted: Callable[[], Any]) -> float:
    """How long it took."""
    began = time.monotonic()
    while not wanted():
        assert time.monotonic() - began < SOON
        time.sleep(0.02)
    return time.monotonic() - began


def refusal(work: Callable[[], Any]) -> type[Exception] | None:
    try:
        work()
    except openai.APIStatusError as error:
        return type(error)
    return None


def test_a_key_s_whole_life_beside_a_running_server(server) -> None:
    assert say(server.client("none")) == "hello"  # without any key this machine is served
    key = server.key("create", "--name", "app", "--scope", "chat", "--scope", "models", "--model", "echo")
    becomes(lambda: refusal(lambda: say(server.client("none"))) is openai.AuthenticationError)
    client = server.client(key)
    assert say(client) == "hello"
    assert say(client, "echo:shout")
    assert [model.id for model in client.models.list()] == ["echo"]
    hidden, unknown = [refused(client, model) for model in ("other", "othex")]
    assert hidden.replace("other", "othex") == unknown
    assert refusal(lambda: client.embeddings.create(model="echo", input="x")) is openai.PermissionDeniedError

    (listed,) = json.loads(server.key("list", "--json"))
    assert (listed["name"], listed["scopes"], listed["models"]) == ("app", ["chat", "models"], ["echo"])
    server.key("update", listed["id"], "--model", "other", "--scope", "chat")
    becomes(lambda: refusal(lambda: say(client)) is openai.NotFoundError)
    assert say(client, "other") == "hello"
    assert refusal(client.models.list) is openai.PermissionDeniedError

    new = server.key("rotate", listed["id"], "--grace", "0s")
    becomes(lambda: refusal(lambda: say(server.client(new), "other")) is None)
    becomes(lambda: refusal(lambda: say(client, "other")) is openai.AuthenticationError)

    *_, rotated = json.loads(server.key("list", "--json"))
    server.key("revoke", rotated["id"])
    becomes(lambda: refusal(lambda: say(server.client(new), "other")) is openai.AuthenticationError)
    assert refusal(lambda: say(server.client("none"))) is openai.AuthenticationError  # and it stays closed
    logged = [entry for line in server.lines if (entry := json.loads(line)).get("path") == "/v1/chat/completions"]
    assert {rotated["id"], listed["id"], None} <= {entry["key_id"] for entry in logged}
    assert not any(secret in line for line in server.lines for secret in (key, new))


def refused(client: openai.OpenAI, model: str) -> str:
    with pytest.raises(openai.NotFoundError) as caught:
        say(client, model)
    return str(caught.value)


def test_a_key_ends_by_itself(server) -> None:
    made = json.loads(server.key("create", "--json"))
    client = server.client(made["value"])
    becomes(lambda: refusal(client.models.list) is None)
    server.key("update", made["id"], "--expires", "5s")
    becomes(lambda: refusal(client.models.list) is openai.AuthenticationError)


def test_the_command_line_finds_the_file_before_there_is_a_server_which_then_may_listen_elsewhere(tmp_path) -> None:
    (tmp_path / "config.toml").write_text('[storage]\ndir = "kept"\n[models.echo]\nsource = ""\nkind = "echo"\n')
    where = environment(tmp_path)
    serve = [COMMAND, "serve", "--config", "config.toml", "--port", "0", "--host", "0.0.0.0", "--inline"]
    refused = subprocess.run(serve, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=PATIENCE)
    assert (refused.returncode, "openai-compat key create" in refused.stderr) == (2, True)
    key = command(tmp_path, where, "create")
    server = Server(tmp_path, "--host", "0.0.0.0")
    try:
        assert say(server.client(key)) == "hello"
        assert refusal(lambda: say(server.client("none"))) is openai.AuthenticationError
    finally:
        server.stop()
    assert "authorization: Bearer $OPENAI_API_KEY" in "".join(server.lines)  # the command that is shown to try it


def test_a_server_does_not_start_open_over_a_damaged_file(tmp_path) -> None:
    (tmp_path / "config.toml").write_text('[models.echo]\nsource = ""\nkind = "echo"\n')
    with_port = environment(tmp_path, PORT="8123")
    command(tmp_path, with_port, "create")
    (database,) = tmp_path.glob("openai-compat/storage/port-8123/state.sqlite3")
    database.write_bytes(b"no database" * 1000)
    serve = [COMMAND, "serve", "--config", "config.toml", "--inline"]
    ended = subprocess.run(serve, cwd=tmp_path, env=with_port, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: \S+state\.sqlite3 cannot be used: .*; API keys may be kept there, .*\n", ended.stderr)


def test_without_a_place_the_command_says_what_to_set(tmp_path) -> None:
    (tmp_path / "config.toml").write_text('[server]\nport = 0\n[models.echo]\nsource = ""\nkind = "echo"\n')
    ended = subprocess.run(
        [COMMAND, "key", "create", "--config", "config.toml"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "set storage.dir" in ended.stderr
