"""Every registered route is closed without a key, and belongs to a scope: the routes are found, so a new one cannot forget."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.auth import PUBLIC_PATHS, hash_key, permission_of
from openai_compat.config import Auth, Config, Model, Server, Storage
from openai_compat.grants import CLIENTS, SCOPES
from openai_compat.keys.file import KeyFile, key_path
from openai_compat.keys.keeper import KeyKeeper
from schemas.admin import CreateKey

PUBLIC = {*PUBLIC_PATHS, "/v1/media/{name:str}"}
PAGES = re.compile(r"/schema(/.*)?")
"""The OpenAPI page is of no scope: a key of any client's rights may read it."""


REFUSED = ({}, {"authorization": "Bearer sk-wrong"}, {"host": "127.0.0.1/health/live?", "x-forwarded-for": "127.0.0.1"})


def litestar_in(app: Any) -> Litestar:
    """The framework's application, behind the layers around it."""
    while not isinstance(app, Litestar):
        app = app._app
    return app


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    for route in litestar_in(app).routes:
        assert isinstance(route, HTTPRoute), f"{route.path} is of a kind that the key is not asked for"
        for method in route.methods:
            if method != "OPTIONS":
                yield method, route.path


def config(folder: Any = None, **parts: Any) -> Config:
    storage = Storage(dir=str(folder)) if folder else Storage()
    return Config(server=Server(port=0, inline=True), storage=storage, models={"echo": Model(kind="echo")}, **parts)


GATEWAY = create_gateway(config(auth=Auth(keys=(hash_key("sk-all"),))))
ROUTES = sorted(routes_of(GATEWAY))
ADMIN = sorted(routes_of(GATEWAY.admin))


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "x.png", path)


@pytest.fixture(scope="module")
def closed():
    with TestClient(GATEWAY, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def test_routes_are_found() -> None:
    paths = {path for _, path in ROUTES}
    assert {"/v1/chat/completions", "/v1/models", "/v1/videos/{video_id:str}", "/metrics", "/models/sse"} <= paths
    assert {("POST", "/admin/keys"), ("DELETE", "/admin/keys/{key_id:str}"), ("POST", "/admin/reload")} <= set(ADMIN)


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
def test_every_route_is_of_one_scope_or_public_on_purpose(path) -> None:
    kinds = [permission_of(path) is not None, path in PUBLIC, PAGES.fullmatch(path) is not None]
    assert sum(kinds) == 1


@pytest.mark.parametrize(("method", "path"), [each for each in ROUTES if each[1] not in PUBLIC])
def test_every_route_is_refused_without_a_key_and_with_a_wrong_one(closed, method, path) -> None:
    for spelled in (filled(path), "/" + filled(path), filled(path) + "/"):
        for headers in REFUSED:
            answer = closed.request(method, f"http://127.0.0.1{spelled}", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), spelled
            assert said(answer) == "invalid_api_key" if method != "HEAD" else not answer.content


def said(answer: Any) -> str:
    """The code of a refusal; Anthropic's shape, which its own routes have, knows a type in its place."""
    body = answer.json()
    if not answer.request.url.path.replace("//", "/").startswith("/v1/messages"):
        return str(body["error"]["code"])
    assert body["type"] == "error"
    return {"authentication_error": "invalid_api_key", "permission_error": "missing_scope"}[body["error"]["type"]]


@pytest.mark.parametrize(("method", "path"), [each for each in ROUTES if each[1] in PUBLIC])
def test_public_routes_are_for_reading_only(closed, method, path) -> None:
    assert method in ("GET", "HEAD")
    assert closed.get(filled(path)).status_code in (200, 404)
    for other in ("POST", "PUT", "DELETE", "PATCH"):
        assert closed.request(other, filled(path)).status_code == 401


def test_the_worker_s_and_the_operators_routes_are_not_on_the_clients_listener(closed) -> None:
    paths = {path for _, path in ROUTES}
    assert not any(path.startswith(("/admin", "/internal")) for path in paths)
    for method, path in ADMIN:
        assert closed.request(method, filled(path), headers={"x-api-key": "sk-all"}).status_code in (404, 405)


def test_each_scope_opens_its_routes_and_no_others(tmp_path) -> None:
    """Of all routes, with a key of each single scope: a 403 that names what is missing, or whatever the route says."""
    keys = asyncio.run(made(config(tmp_path)))
    with TestClient(create_gateway(config(tmp_path)), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        for scope, key in keys.items():
            for method, path in ROUTES:
                if path in PUBLIC or path == "/models/sse":  # which does not end
                    continue
                answer = client.request(method, filled(path), headers={"x-api-key": key})
                wanted = permission_of(path)
                assert (answer.status_code == 403) == (wanted != scope), (scope, path)
                if answer.status_code == 403 and method != "HEAD":
                    error = answer.json()["error"]
                    assert (error["type"], said(answer)) == ("permission_error", "missing_scope")
                    missing = [wanted] if wanted else sorted(CLIENTS - {scope})
                    assert error["message"].endswith(f"Missing scopes: {', '.join(missing)}.")


async def made(config: Config) -> dict[str, str]:
    """A key of each single scope."""
    file = KeyFile(key_path(config))
    try:
        return {scope: (await KeyKeeper(file).create(CreateKey(scopes=(scope,)))).secret for scope in sorted(SCOPES)}
    finally:
        await file.close()


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_every_operator_s_route_needs_a_key_for_operators_over_tcp(method, path) -> None:
    with TestClient(GATEWAY.admin, base_url="http://127.0.0.1") as client:
        assert client.request(method, filled(path)).status_code == 401
        assert client.request(method, filled(path), headers={"x-api-key": "sk-wrong"}).status_code == 401
        assert client.request(method, filled(path), headers={"x-api-key": "sk-all"}).status_code == 403
        assert client.get("/health/live").status_code == 401


def test_a_server_without_any_keys_has_no_open_door_for_operators_either() -> None:
    with TestClient(create_gateway(config()).admin, base_url="http://127.0.0.1") as client:
        assert {client.request(method, filled(path)).status_code for method, path in ADMIN} == {401}
