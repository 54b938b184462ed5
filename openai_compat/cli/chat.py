"""``openai-compat chat``: a terminal chat through the openai SDK, as any other client would do it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openai_compat.config import Config
from openai_compat.errors import Unavailable
from openai_compat.http.server import listen, url_of
from openai_compat.settings import KEY_VARIABLE

if TYPE_CHECKING:
    from openai import OpenAI

_HELP = "/reset begins anew, /exit ends (so does ctrl-d), ctrl-c stops an answer."
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])
"""All but tab and line break: what a model writes must not steer the terminal."""


def chat(config: Config, config_file: Path | None, *, model: str | None, url: str | None, system: str | None) -> None:
    """Talk until the person leaves. Raises ``Unavailable`` when there is no server and none could be started."""
    from openai import OpenAI

    _edit_lines()
    with _server(config, config_file, url) as base:
        key = os.environ.get(KEY_VARIABLE) or os.environ.get("OPENAI_API_KEY") or "none"
        with OpenAI(base_url=base, api_key=key, max_retries=5) as client:
            chosen = model or _first_model(client)
            _say(f"Talking to {chosen} at {base}. {_HELP}\n")
            Conversation(client, chosen, system).run()


class Conversation:
    """What has been said so far, and the loop that adds to it."""

    def __init__(self, client: OpenAI, model: str, system: str | None) -> None:
        self._client = client
        self._model = model
        self._opening: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._opening)

    def run(self) -> None:
        while (line := _ask()) is not None:
            command = line.strip()
            if command == "/exit":
                return
            if command == "/reset":
                self._messages = list(self._opening)
                _say("A new conversation.\n")
            elif command == "/help":
                _say(_HELP + "\n")
            elif command.startswith("/") and command.count("/") == len(command.split()) == 1:
                _say(f"There is no {command}. {_HELP}\n")
            elif command:
                self._turn(line)

    def _turn(self, line: str) -> None:
        """One question and its answer; an answer that was stopped is kept as far as it came, one that failed is not."""
        from openai import APIError

        self._messages.append({"role": "user", "content": line})
        pieces: list[str] = []
        try:
            self._stream(pieces)
        except KeyboardInterrupt:
            _say(" … (stopped)")
        except APIError as error:
            _say(f"error: {error.message}")
            self._messages.pop()
            return
        finally:
            _say("\n")
        self._messages.append({"role": "assistant", "content": "".join(pieces)})

    def _stream(self, pieces: list[str]) -> None:
        messages: Any = self._messages
        with self._client.chat.completions.create(model=self._model, messages=messages, stream=True) as stream:
            for chunk in stream:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    pieces.append(text)
                    _say(text)


def _ask() -> str | None:
    """The next line; None at the end of input. Ctrl-c at the prompt drops the line."""
    while True:
        try:
            # Bytes that are no text in this terminal's encoding come as lone surrogates, which JSON cannot say.
            return input("> ").encode(errors="replace").decode()
        except EOFError:
            _say("\n")
            return None
        except KeyboardInterrupt:
            _say("\n(/exit or ctrl-d ends)\n")


def _edit_lines() -> None:
    """Arrow keys and earlier lines at the prompt, where Python was built with them."""
    with suppress(ImportError):
        import readline  # noqa: F401


def _say(text: str) -> None:
    sys.stdout.write(text.translate(_CONTROLS))
    sys.stdout.flush()


def _first_model(client: OpenAI) -> str:
    from openai import APIError

    try:
        for model in client.with_options(max_retries=0).models.list():
            return model.id
    except APIError as error:
        raise Unavailable(f"The server at {_shown(client)} did not list its models: {error.message}") from None
    raise Unavailable(f"The server at {_shown(client)} lists no model; name the one to talk to.")


def _shown(client: OpenAI) -> str:
    return str(client.base_url).rstrip("/")


@contextmanager
def _server(config: Config, config_file: Path | None, url: str | None) -> Iterator[str]:
    """The URL of a server: the one named, the one running, or one that lives as long as the chat."""
    usual = url_of(config.server.host, config.server.port)
    if url or _answers(usual):
        yield _completed(url) if url else usual
        return
    with listen("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}/v1"
    command = [sys.executable, "-P", "-m", "openai_compat", "serve", "--private", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "warning", *(["--config", str(config_file)] if config_file else [])]
    # A session of its own: ctrl-c is meant for the answer, not for the server.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as server:  # noqa: S603
        # Else a terminal window that is closed would leave the server, and the model in memory, behind.
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, _leave)
        try:
            _wait(server, base)
            yield base
        finally:
            server.terminate()


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _completed(url: str) -> str:
    """What people leave out: the scheme, and the API's path."""
    full = url if "://" in url else f"http://{url}"
    return full.rstrip("/") if urlsplit(full).path.strip("/") else full.rstrip("/") + "/v1"


def _wait(server: subprocess.Popen[bytes], base: str) -> None:
    """Wait for the server that was started; while it fetches models it shows its progress and there is no limit."""
    _say("Starting a server …\n")
    while not _answers(base):
        if server.poll() is not None:
            raise Unavailable("The server could not be started.")
        time.sleep(0.1)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(base.removesuffix("/v1") + "/health/live", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
