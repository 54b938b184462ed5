"""Relayed paths are found as the framework's router would find them."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from litestar import Litestar, get, post
from litestar.types import Receive, Scope, Send
from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.errors import exception_handlers
from openai_compat.http.front import Front


class Ask(Struct):
    model: str


ENDPOINT = Endpoint(Ask, lambda request: "generate_text")


@post("/v1/x", opt={"endpoint": ENDPOINT})
async def relayed() -> str:
    raise AssertionError("the front answers")


@post("/v1/own")
async def own() -> str:
    return "own"


@get("/v1/own")
async def read() -> str:
    return "read"


async def answer(scope: Scope, receive: Receive, send: Send, endpoint: Endpoint) -> None:
    assert endpoint is ENDPOINT
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"front", "more_body": False})


def ask(path: str, method: str = "POST", serve=answer) -> tuple[int, bytes, dict]:
    app = Litestar([relayed, own, read], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
        "state": {}, "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(Front(app, serve)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]), scope


@pytest.mark.parametrize("path", ["/v1/x", "/v1/x/", "//v1///x", "/v1/x//"])
def test_a_relayed_path_is_answered_ahead_of_the_router_under_its_own_name(path) -> None:
    status, body, scope = ask(path)
    assert (status, body) == (200, b"front")
    assert scope["path_template"] == "/v1/x"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/own", 201),
        ("GET", "/v1/own", 200),
        ("GET", "/v1/x", 405),
        ("POST", "/v1/nothing", 404),
        ("POST", "/", 404),
    ],
)
def test_everything_else_is_the_application_s(method, path, status) -> None:
    assert ask(path, method)[0] == status


def test_an_error_before_the_first_byte_is_answered_in_its_own_words() -> None:
    async def refuse(*_) -> None:
        raise InvalidRequest("No.", param="model")

    status, body, _ = ask("/v1/x", serve=refuse)
    assert status == 400
    assert json.loads(body)["error"] == {"message": "No.", "type": "invalid_request_error", "param": "model", "code": None}


def test_what_nobody_foresaw_is_logged_and_tells_a_client_nothing(caplog) -> None:
    async def fail(*_) -> None:
        raise RuntimeError("a secret")

    with caplog.at_level(logging.ERROR, "openai_compat.http"):
        status, body, _ = ask("/v1/x", serve=fail)
    assert status == 500
    assert b"secret" not in body
    assert "a secret" in caplog.text
