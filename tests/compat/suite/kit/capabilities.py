"""What the server under test can do at all: a check that needs what is not there is skipped, and the table says so.

A route is absent where a request that is right in every way is answered with 404, 405 or 501 and no word of the model, or by
saying that it is not supported. Anything else is an answer of that route: a server that fails is not excused by this.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from kit.server import SECONDS, Server

ABSENT = frozenset({404, 405, 501})
HI = [{"role": "user", "content": "Hi"}]
ROUTES: dict[str, tuple[str, Callable[[Server], Any]]] = {
    "chat": ("/chat/completions", lambda server: {"model": server.model, "messages": HI, "max_tokens": 1}),
    "completions": ("/completions", lambda server: {"model": server.model, "prompt": "Hi", "max_tokens": 1}),
    "embeddings": ("/embeddings", lambda server: {"model": server.embedding_model or server.model, "input": "Hi"}),
    "responses": (
        "/responses",
        lambda server: {"model": server.model, "input": "Hi", "max_output_tokens": 16, "stream": False},
    ),
    "responses.input_tokens": ("/responses/input_tokens", lambda server: {"model": server.model, "input": "Hi"}),
    "conversations": ("/conversations", lambda server: {}),
    "messages": ("/messages", lambda server: {"model": server.model, "messages": HI, "max_tokens": 1}),
    "messages.count_tokens": ("/messages/count_tokens", lambda server: {"model": server.model, "messages": HI}),
    "moderations": ("/moderations", lambda server: {"model": server.model, "input": "Hi"}),
    "tokenize": ("../tokenize", lambda server: {"model": server.model, "prompt": "Hi"}),
    "models": ("/models", lambda server: None),
}
MODELS = {
    "embedding-model": "embedding_model",
    "speech": "speech_model",
    "transcriptions": "transcription_model",
    "images": "image_model",
    "vision": "vision_model",
}
"""Nobody can guess these: they are there where a model was named."""


class Capabilities:
    """Each is found out once, when first asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._absent: dict[str, str] = {}

    def missing(self, name: str) -> str:
        """Why it is not there; empty where it is."""
        if name not in self._absent:
            self._absent[name] = self._look(name)
        return self._absent[name]

    def _look(self, name: str) -> str:
        if name in MODELS:
            return "" if getattr(self._server, MODELS[name]) else f"no {MODELS[name].upper()} was named"
        path, body_of = ROUTES[name]
        status, said = ask(self._server, path, body_of(self._server))
        absent = (status in ABSENT and "model" not in said) or "not supported" in said
        return f"{path} is answered with {status}" if absent else ""


def ask(server: Server, path: str, body: Any) -> tuple[int, str]:
    """The status, and an error's code or else what it says: ``model_not_found`` comes from a route that is there."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {server.api_key}", "x-api-key": server.api_key}
    data = None if body is None else json.dumps(body).encode()
    url = server.target.removesuffix("/v1") + path[2:] if path.startswith("..") else server.target + path
    request = Request(url, data, {**headers, **server.headers, "anthropic-version": "2023-06-01"})
    try:
        with urlopen(request, timeout=SECONDS) as answer:
            return answer.status, ""
    except HTTPError as error:
        return error.code, _code(error.read())
    except TimeoutError:
        return 0, ""  # the route is there, and slow: the checks will tell


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
