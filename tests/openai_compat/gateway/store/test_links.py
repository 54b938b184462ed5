"""Pictures of an answer behind links, through the whole gateway."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, post
from litestar.params import RawBody
from litestar.testing import TestClient
from msgspec import Struct

from openai_compat import app as composition
from openai_compat.auth import hash_key
from openai_compat.config import Auth, Config, Model, Server
from openai_compat.config import Storage as Settings
from openai_compat.http.endpoint import Endpoint

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000
WEBP = b"RIFF\0\0\0\0WEBPVP8 "
KEY = "sk-painter"
MODES = {"url": True, "b64_json": False}


class Ask(Struct, frozen=True):
    model: str | None = None
    response_format: str = "url"


ENDPOINT = Endpoint(Ask, lambda _: "generate_image", links=lambda ask: MODES[ask.response_format])


@post("/v1/paint", opt={"endpoint": ENDPOINT}, status_code=200)
async def paint(body: RawBody) -> dict[str, Any]:
    """The worker's answer; in the gateway the relay stands before it."""
    pictures = [{"b64_json": base64.b64encode(picture).decode()} for picture in (PNG, WEBP)]
    return {"created": 1, "data": [{"revised_prompt": "p", **pictures[0]}, {"mask": pictures[1]}]}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @contextmanager
    def make(*, keys: tuple[str, ...] = (), quota: int = 10**9, **server: Any) -> Iterator[TestClient[Litestar]]:
        monkeypatch.setattr(composition, "MODEL_ROUTES", (paint,))
        (tmp_path / "nothing").mkdir(exist_ok=True)
        config = Config(
            server=Server(inline=True, **server),
            auth=Auth(keys=keys),
            storage=Settings(dir=str(tmp_path / "kept"), quota=quota),
            models={"echo": Model(source=str(tmp_path / "nothing"), kind="echo")},
        )
        with TestClient(composition.create_gateway(config), base_url="http://127.0.0.1:8000") as client:
            yield client

    return make


def test_each_picture_becomes_a_link_that_leads_to_its_bytes(served) -> None:
    with served() as client:
        answer = client.post("/v1/paint", json={})
        first, second = answer.json()["data"]
        assert first.keys() == {"revised_prompt", "url"}
        assert first["url"].startswith("http://127.0.0.1:8000/v1/media/")
        shown = client.get(first["url"])
        assert shown.content == PNG
        assert shown.headers["content-type"] == "image/png"
        assert shown.headers["content-length"] == str(len(PNG))
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert shown.headers["cache-control"].startswith("private, max-age=3")
        assert client.get(second["mask"]["url"]).headers["content-type"] == "image/webp"


def test_one_range_of_a_file_is_sent_and_of_several_the_whole(served) -> None:
    """Of a file that is longer than one reading of it."""
    with served() as client:
        url = client.post("/v1/paint", json={}).json()["data"][0]["url"]
        size = len(PNG)
        for asked, places in (("bytes=0-", (0, size)), ("bytes=5-300004", (5, 300_005)), ("bytes=-7", (size - 7, size))):
            part = client.get(url, headers={"range": asked})
            assert (part.status_code, part.content == PNG[slice(*places)]) == (206, True)
            assert part.headers["content-range"] == f"bytes {places[0]}-{places[1] - 1}/{size}"
            assert part.headers["content-length"] == str(places[1] - places[0])
        for headers in ({"range": "bytes=0-1,3-4"}, {"range": f"bytes={size}-"}, {"range": "bytes=0-1", "if-range": '"x"'}, {}):
            whole = client.get(url, headers=headers)
            assert (whole.status_code, whole.content == PNG) == (200, True)
            assert whole.headers["accept-ranges"] == "bytes"
            assert "content-range" not in whole.headers
        head = client.head(url, headers={"range": "bytes=0-1"})
        assert (head.status_code, head.headers["content-length"], head.content) == (206, "2", b"")


def test_where_no_link_is_asked_for_the_bytes_stay(served) -> None:
    with served() as client:
        answer = client.post("/v1/paint", json={"response_format": "b64_json"}).json()
        assert base64.b64decode(answer["data"][0]["b64_json"]) == PNG


def test_head_tells_the_size(served) -> None:
    with served() as client:
        shown = client.head(client.post("/v1/paint", json={}).json()["data"][0]["url"])
        assert (shown.status_code, shown.headers["content-length"], shown.content) == (200, str(len(PNG)), b"")


def test_a_page_without_a_key_may_show_it_and_no_key_is_needed_but_to_make_it(served) -> None:
    with served(keys=(hash_key(KEY),)) as client:
        assert client.post("/v1/paint", json={}).status_code == 401
        answer = client.post("/v1/paint", json={}, headers={"authorization": f"Bearer {KEY}", "host": "pictures.test"})
        url = answer.json()["data"][0]["url"]
        assert url.startswith("http://pictures.test/v1/media/")
        assert client.get(url).content == PNG


def test_the_public_address_is_used_where_one_is_configured(served) -> None:
    with served(public_url="https://pictures.example/") as client:
        url = client.post("/v1/paint", json={}).json()["data"][0]["url"]
        assert url.startswith("https://pictures.example/v1/media/")


@pytest.mark.parametrize("name", ["x.png", "..%2fstate.sqlite3", "%2e%2e", "lock", "a" * 5000, "x'%20OR%201=1--.png"])
def test_a_link_to_nothing_is_a_404(served, name: str) -> None:
    with served() as client:
        client.post("/v1/paint", json={})
        answer = client.get(f"/v1/media/{name}")
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_expired_link_is_a_404(served, tmp_path: Path) -> None:
    with served() as client:
        url = client.post("/v1/paint", json={}).json()["data"][0]["url"]
        with sqlite3.connect(tmp_path / "kept" / "state.sqlite3") as connection:
            connection.execute("UPDATE media SET expires = 1")
        connection.close()
        assert client.get(url).status_code == 404


def test_a_link_outlives_the_server(served) -> None:
    with served() as client:
        url = client.post("/v1/paint", json={}).json()["data"][0]["url"]
    with served() as client:
        assert client.get(url).content == PNG


def test_where_there_is_no_room_the_answer_is_a_503_that_says_so(served) -> None:
    with served(quota=1000) as client:
        answer = client.post("/v1/paint", json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_full")
        assert answer.headers["x-should-retry"] == "false"
        assert client.post("/v1/paint", json={"response_format": "b64_json"}).status_code == 200
