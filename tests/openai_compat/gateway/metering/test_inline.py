"""Models in the gateway's own process report what they did as workers do."""

from __future__ import annotations

import time
from typing import Any

from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, Metering, Model, Price, Server

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


def test_an_inline_model_is_counted_too() -> None:
    price = Price(prompt=1.0, completion=3.0)
    config = Config(server=Server(inline=True, port=0), models={"echo": Model(kind="echo", price=price)})
    with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        total: dict[str, Any] = {"requests": 0}
        for stream in (False, True):
            body = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}], "stream": stream}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        deadline = time.monotonic() + PATIENCE
        while total["requests"] < 2 and time.monotonic() < deadline:
            total = client.get("/v1/usage").json()["total"]
    assert (total["requests"], total["prompt_tokens"], total["completion_tokens"], total["estimated_tokens"]) == (2, 6, 6, 0)
    assert total["cost"] == 24e-6


def test_a_request_that_breaks_before_it_goes_anywhere_gives_its_place_back() -> None:
    metering = Metering(concurrent_requests=1, requests_per_minute=100)
    config = Config(server=Server(inline=True, port=0), models={"echo": Model(kind="echo")}, metering=metering)
    gateway = create_gateway(config)

    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["query_string"]:
            scope["query_string"] = None  # as no server leaves it
        await gateway(scope, receive, send)

    with TestClient(breaking, base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        body = {"model": "echo", "messages": [{"role": "user", "content": "one"}]}
        for _ in range(3):
            assert client.post("/v1/chat/completions?x", json=body).status_code == 500
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        limits = client.get("/v1/usage").json()["limits"]
    assert limits["requests_per_minute"]["used"] == 4
    assert limits["concurrent_requests"]["used"] == 0


def test_a_failure_of_an_admitted_request_tells_what_is_left_too() -> None:
    config = Config(
        server=Server(inline=True, port=0), models={"echo": Model(kind="echo")}, metering=Metering(requests_per_minute=2)
    )
    with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        left = []
        for messages in ([], [{"role": "user", "content": "[[error=503]] one"}], [{"role": "user", "content": "one"}]):
            answer = client.post("/v1/chat/completions", json={"model": "echo", "messages": messages})
            left.append((answer.status_code >= 400, answer.headers["x-ratelimit-remaining-requests"]))
        assert left == [(True, "1"), (True, "0"), (True, "0")]
        assert answer.status_code == 429
        assert answer.headers.get_list("x-ratelimit-limit-requests") == ["2"]
        unknown = client.post(
            "/v1/chat/completions", json={"model": "nobody", "messages": [{"role": "user", "content": "one"}]}
        )
        assert unknown.status_code == 404
        assert not any(name.startswith("x-ratelimit") for name in unknown.headers)
