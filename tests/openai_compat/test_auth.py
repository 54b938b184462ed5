"""Every path is closed without a key, except health; without keys only this machine is served."""

from __future__ import annotations

import pytest
from litestar import Litestar, Request, get
from litestar.testing import TestClient

from openai_compat.auth import Authentication, hash_key, is_loopback, permission_of
from openai_compat.config import Auth, Config
from openai_compat.grants import ANYBODY, CLIENTS, Grant
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


async def status_with(headers: list[tuple[str, str]]) -> int:
    """By way of the headers as a server gives them, which no client's library has put together."""
    sent = []

    async def reached(scope, receive, send) -> None:
        await send({"status": 200})

    async def send(message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    gate = Authentication(reached, Ring(Config(auth=Auth(keys=KEYS))))
    await gate({"type": "http", "method": "GET", "path": "/v1/models", "headers": raw}, None, send)
    return sent[0]["status"]


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer sk-one"), ("authorization", "Bearer sk-two")],
        [("authorization", "Bearer sk-one"), ("authorization", "Bearer sk-three")],
        [("authorization", "Bearer sk-three"), ("x-api-key", "sk-one")],
        [("x-api-key", "sk-one"), ("x-api-key", "sk-two")],
        [("authorization", "Bearer sk-one, Bearer sk-one")],
        [("authorization", "Bearer sk-one sk-two")],
        [("authorization", "Bearer " + "x" * (1 << 20))],
        [("authorization", "Bearer " + " " * (1 << 20))],
        [("x-api-key", "sk-one\x00")],
    ],
)
def test_two_keys_are_none_and_so_is_an_endless_one(in_time, headers) -> None:
    assert in_time(status_with(headers)) == 401


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer sk-one"), ("x-api-key", "sk-one")],
        [("authorization", "Bearer sk-one"), ("authorization", "bearer sk-one")],
        [("authorization", "Bearer "), ("x-api-key", "sk-one")],
    ],
)
def test_one_key_may_be_said_twice(in_time, headers) -> None:
    assert in_time(status_with(headers)) == 200


def test_what_is_no_request_for_a_page_is_refused_too(in_time) -> None:
    """Nothing here speaks WebSockets; one that did would pass by the keys."""
    sent = []

    async def reached(scope, receive, send) -> None:
        raise AssertionError

    async def send(message) -> None:
        sent.append(message)

    gate = Authentication(reached, Ring(Config(auth=Auth(keys=KEYS))))
    in_time(gate({"type": "websocket", "path": "/v1/models", "headers": []}, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/chat/completions", "chat"),
        ("//v1///chat//completions", "chat"),
        ("/v1/completions", "chat"),
        ("/v2/rerank", "embeddings"),
        ("/v1/images/edits", "images"),
        ("/v1/videos", "videos"),
        ("/v1/videos/abc/content", "videos"),
        ("/v1/models/org/name", "models"),
        ("/models/sse", "events"),
        ("/models", "models"),
        ("/models/load", "load"),
        ("/models/unload", "load"),
        ("/metrics", "metrics"),
        ("/metrics/", "metrics"),
        ("/v1/chatter", None),
        ("/v1", None),
        ("/", None),
        ("", None),
        ("/v1/../metrics", None),
        ("/V1/chat/completions", None),
        ("/metrics/x", None),
    ],
)
def test_a_scope_is_of_whole_segments_and_slashes_are_counted_as_the_router_counts_them(path, scope) -> None:
    assert permission_of(path) == scope


class Fixed:
    """``Grants`` of one key."""

    exist = True

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    def find(self, digest: bytes) -> Grant | None:
        return self._grant


def status_of(grant: Grant, path: str) -> int:
    app = Litestar([answer], exception_handlers=exception_handlers, logging_config=None)
    app.asgi_handler = Authentication(app.asgi_handler, Fixed(grant))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        return client.get(path, headers={"x-api-key": "k"}).status_code


def test_a_path_of_no_scope_is_for_keys_that_no_scope_restricts() -> None:
    assert status_of(Grant(), "/nowhere") == 404
    assert status_of(Grant(scopes=CLIENTS - {"usage"}), "/nowhere") == 403
    assert status_of(Grant(), "/metrics") == 403  # for operators
    assert status_of(ANYBODY, "/metrics") == 200


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


PASSED_ON = [
    {"x-forwarded-for": "203.0.113.9"},
    {"x-forwarded-for": "127.0.0.1, 203.0.113.9"},
    {"x-forwarded-for": "203.0.113.9, 127.0.0.1"},
    {"x-forwarded-for": "unknown"},
    {"x-real-ip": "2001:db8::1"},
    {"x-forwarded-for": ",".join(["127.0.0.1"] * 100)},
]


@pytest.mark.parametrize("headers", PASSED_ON, ids=str)
def test_without_keys_what_a_tunnel_passes_on_is_refused_also_under_this_machines_name(keyless, headers) -> None:
    """``ngrok http 8000 --host-header=localhost`` would show a server without keys to everybody."""
    response = keyless.get("/v1/models", headers={"host": "localhost:8000", **headers})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host_not_allowed"
    assert "trusted_proxies" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers", [{"x-forwarded-for": "127.0.0.1"}, {"x-real-ip": "::1"}, {"x-forwarded-for": "::1, 127.0.0.1"}]
)
def test_without_keys_this_machine_may_ask_through_a_proxy_of_its_own(keyless, headers) -> None:
    assert keyless.get("/v1/models", headers={"host": "localhost:8000", **headers}).status_code == 200


def test_with_keys_any_host_name_is_served(closed) -> None:
    assert closed.get("/v1/models", headers={"x-api-key": "sk-one", **PASSED_ON[0]}).status_code == 200
    assert closed.get("/v1/models", headers={"host": "models.example", "x-api-key": "sk-one"}).status_code == 200


def test_loopback_is_recognised() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example"]))
