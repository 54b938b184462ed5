"""A body over the limit is refused, whether or not it says how long it is."""

from __future__ import annotations

import asyncio

import pytest
from litestar import Litestar, Request, post
from litestar.testing import TestClient

from openai_compat.http.errors import exception_handlers
from openai_compat.limits import BodyLimit


@post("/echo")
async def echo(request: Request) -> dict:
    return {"length": len(await request.body())}


@pytest.fixture(scope="module")
def client():
    app = Litestar([echo], exception_handlers=exception_handlers, logging_config=None, request_max_body_size=None)
    app.asgi_handler = BodyLimit(app.asgi_handler, max_body=1000)
    with TestClient(app) as client:
        yield client


def refused(response) -> bool:
    return response.status_code == 413 and response.json()["error"]["code"] == "request_too_large"


def test_a_body_of_exactly_the_limit_is_read(client) -> None:
    assert client.post("/echo", content=b"x" * 1000).json() == {"length": 1000}


def test_a_longer_one_is_refused(client) -> None:
    assert refused(client.post("/echo", content=b"x" * 1001))


def test_a_longer_one_that_does_not_say_its_length_is_refused(client) -> None:
    assert refused(client.post("/echo", content=iter([b"x" * 600, b"x" * 600])))


def test_a_shorter_one_that_does_not_say_its_length_is_read(client) -> None:
    assert client.post("/echo", content=iter([b"x" * 300, b"x" * 300])).json() == {"length": 600}


def test_an_unknown_url_is_limited_too(client) -> None:
    assert refused(client.post("/nowhere", content=b"x" * 1001))


@pytest.mark.parametrize("length", [b"9" * 30, b"-1", b"many"])
def test_a_false_length_is_refused_before_anything_is_read(length) -> None:
    sent = []

    async def never_reached(scope, receive, send) -> None:
        raise AssertionError

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", length)]}
    asyncio.run(BodyLimit(never_reached, max_body=10)(scope, None, send))
    assert sent[0]["status"] in (400, 413)
