"""Every path is closed without a key, except health; without keys only this machine is served."""

from __future__ import annotations

import pytest
from litestar import Litestar, Request, get
from litestar.testing import TestClient

from openai_compat.auth import Authentication, hash_key, is_loopback
from openai_compat.config import Auth, Config
from openai_compat.http.errors import exception_handlers
from openai_compat.keys.ring import Ring

KEYS = (hash_key("sk-one"), hash_key("sk-two"))


@get(["/v1/models", "/health/live", "/metrics"])
async def answer(request: Request) -> dict:
    return {"key_id": request.scope["state"]["key_id"]}


def client_for(keys: tuple[str, ...], base_url: str = "http://127.0.0.1") -> TestClient:
    app = Litestar([answer], exception_handlers=exception_handlers, logging_config=None)
    app.asgi_handler = Authentication(app.asgi_handler, Ring(Config(auth=Auth(keys=keys))))
    return TestClient(app, base_url=base_url)


@pytest.fixture(scope="module")
def closed():
    with client_for(KEYS) as client:
        yield client


@pytest.fixture(scope="module")
def keyless():
    with client_for(()) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/schema", "/nowhere", "//health/live", "/health/live/", "/health/LIVE"]
)
def test_without_a_key_every_path_is_refused(closed, path) -> None:
    response = closed.get(f"http://127.0.0.1{path}")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(closed) -> None:
    assert closed.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/media/", "/v1/media/../models", "/v1/media/a.png/..", "/v1/media/a.png/../../models", "/v1/media"]
)
def test_only_the_files_behind_links_need_no_key(closed, path) -> None:
    assert closed.get("/v1/media/Ab_-9.png").status_code == 404
    assert closed.get(path.replace("..", "%2e%2e")).status_code == 401


def test_the_host_header_does_not_change_which_path_is_asked_for(closed) -> None:
    assert closed.get("/v1/models", headers={"host": "localhost/health/live?"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-one"},
        {"authorization": "bearer  sk-two"},
        {"x-api-key": "sk-two"},
        {"authorization": "Basic abc", "x-api-key": "sk-one"},
    ],
)
def test_a_known_key_opens(closed, headers) -> None:
    assert closed.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-three"},
        {"authorization": "Bearer "},
        {"authorization": "sk-one"},
        {"authorization": "Basic sk-one"},
        {"x-api-key": ""},
        {"authorization": "Bearer " + KEYS[0]},
        {"x-api-key": "sk-\xfc".encode("latin-1")},
    ],
)
def test_anything_else_does_not(closed, headers) -> None:
    response = closed.get("/v1/models", headers=headers)
    assert response.status_code == 401
    assert "sk-" not in response.text


def test_two_keys_are_told_apart_without_showing_them(closed) -> None:
    ids = {key: closed.get("/v1/models", headers={"x-api-key": key}).json()["key_id"] for key in ("sk-one", "sk-two")}
    assert ids["sk-one"] != ids["sk-two"]
    assert all(len(key_id) == 16 and key_id not in key for key, key_id in ids.items())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.0.0.1", "[::1]:8000", "[::1]"])
def test_without_keys_this_machine_is_served_under_its_own_names(keyless, host) -> None:
    assert keyless.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.5:8000",
        "[::2]:80",
        "0.0.0.0",
    ],
)
def test_without_keys_a_rebound_name_is_refused(keyless, host) -> None:
    response = keyless.get("/v1/models", headers={"host": host})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host_not_allowed"


def test_with_keys_any_host_name_is_served(closed) -> None:
    assert closed.get("/v1/models", headers={"host": "models.example", "x-api-key": "sk-one"}).status_code == 200


def test_loopback_is_recognised() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example"]))
