"""Models in the gateway's own process report what they did as workers do."""

from __future__ import annotations

import time
from typing import Any

from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, Model, Price, Server

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
