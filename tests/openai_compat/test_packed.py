"""Bodies that come packed, as Codex sends them to its own backend: on every route that takes JSON. The routes are found."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, Model, Server

if sys.version_info >= (3, 14):
    from compression.zstd import compress as zstd
else:
    from backports.zstd import compress as zstd

WITHOUT_BODY = re.compile(r".*/cancel|/v1/(videos|responses)/x")
"""The second are what OpenAI has and this server has not: a 404 whatever is sent."""
PACKERS: dict[str, Callable[[bytes], bytes]] = {"zstd": zstd, "gzip": gzip.compress, "deflate": zlib.compress}
NO_REQUEST = b'["an object is expected"]'
BOMB = b'{"model":"echo","input":"' + b" " * (1 << 20) + b'"}'
GATEWAY = create_gateway(Config(server=Server(port=0, inline=True, max_body="64KiB"), models={"echo": Model(kind="echo")}))


def posts() -> Iterator[str]:
    app: Any = GATEWAY
    while not isinstance(app, Litestar):
        app = app._app
    for route in app.routes:
        path = re.sub(r"\{[^}]+\}", "x", route.path)
        if "POST" in getattr(route, "methods", ()) and not WITHOUT_BODY.fullmatch(path):
            yield path


ROUTES = sorted(posts())


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Any]]:
    with TestClient(GATEWAY, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient[Any], path: str, encoding: str, body: bytes) -> Any:
    return client.post(path, content=body, headers={"content-type": "application/json", "content-encoding": encoding})


def test_routes_are_found() -> None:
    assert {"/v1/chat/completions", "/v1/embeddings", "/v1/audio/transcriptions", "/v1/videos", "/models/load"} <= set(ROUTES)


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("path", ROUTES)
def test_a_packed_body_is_read_as_the_plain_one(client: TestClient[Any], path: str, encoding: str) -> None:
    plain = client.post(path, content=NO_REQUEST, headers={"content-type": "application/json"})
    packed = post(client, path, encoding, PACKERS[encoding](NO_REQUEST))
    assert 400 <= plain.status_code < 500, plain.text
    assert (packed.status_code, packed.json()["error"]) == (plain.status_code, plain.json()["error"])


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("path", ROUTES)
def test_a_bomb_is_too_large(client: TestClient[Any], path: str, encoding: str) -> None:
    bomb = PACKERS[encoding](BOMB)
    assert len(bomb) < 2048
    answer = post(client, path, encoding, bomb)
    assert (answer.status_code, "larger than" in answer.json()["error"]["message"]) == (413, True)


@pytest.mark.parametrize(("encoding", "status"), [*((name, 400) for name in PACKERS), ("br", 415), ("gzip, gzip", 415)])
@pytest.mark.parametrize("path", ROUTES)
def test_what_is_packed_otherwise_than_it_says_is_refused(
    client: TestClient[Any], path: str, encoding: str, status: int
) -> None:
    assert post(client, path, encoding, b"neither of them").status_code == status


def test_a_packed_chat_is_answered(client: TestClient[Any]) -> None:
    body = b'{"model": "echo", "messages": [{"role": "user", "content": "hi there"}]}'
    answers = [post(client, "/v1/chat/completions", name, pack(body)).json() for name, pack in PACKERS.items()]
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == ["hi there"] * len(PACKERS)
