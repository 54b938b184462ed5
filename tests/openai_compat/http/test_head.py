"""HEAD: the headers of a GET, and nothing behind them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from openai_compat.http.head import HeadAsGet


def run(app: Any, method: str) -> tuple[list[dict], dict]:
    """What goes out, and the scope afterwards."""
    sent: list[dict] = []
    scope = {"type": "http", "method": method, "path": "/x", "headers": [], "state": {}}

    async def send(message: dict) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    asyncio.run(HeadAsGet(app)(scope, receive, send))  # type: ignore[arg-type]
    return sent, scope


async def page(scope: dict, receive: Any, send: Any) -> None:
    scope["path_template"] = "/{x}"
    scope["state"]["seen"] = scope["method"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"cd", "more_body": False})


def test_a_head_is_answered_with_the_headers_of_a_get() -> None:
    sent, scope = run(page, "HEAD")
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
    assert (scope["method"], scope["state"]["seen"], scope["path_template"]) == ("HEAD", "GET", "/{x}")


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_every_other_method_is_left_alone(method) -> None:
    sent, scope = run(page, method)
    assert len(sent) == 3
    assert scope["state"]["seen"] == method
