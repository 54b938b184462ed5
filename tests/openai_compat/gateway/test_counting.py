"""Counts of chats for requests in other shapes: by the model itself, or about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, Metering, Model, Server, Upstream, UpstreamModel
from openai_compat.errors import InvalidRequest, NotFound, RateLimited
from openai_compat.gateway.asking import Asker, Asking
from openai_compat.gateway.counting import PATH, Counter
from openai_compat.grants import ANYBODY
from openai_compat.http.endpoint import Endpoint
from openai_compat.translate import tokenize
from schemas.tokenize import TokenizeRequest

SERVER = Server(inline=True, port=0)
ENDPOINT = Endpoint(request=TokenizeRequest, plan=tokenize.plan, local=True)
NOWHERE = Upstream(base_url="http://127.0.0.1:9/v1", models={"far": UpstreamModel(name="gpt")})
ASKER = Asker(grant=ANYBODY, request_id="r", client=("127.0.0.1", 1))
Count = Callable[[dict[str, Any]], int]


class Through:
    """The whole server in the place of its relay."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def serve(self, scope: Any, receive: Any, send: Any, endpoint: Endpoint) -> None:
        del scope["state"]["grant"]
        plain = {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80), "raw_path": b""}
        await self._app({**scope, **plain, "headers": [*scope["headers"], (b"host", b"127.0.0.1")]}, receive, send)


@contextmanager
def counting(**settings: Any) -> Iterator[tuple[Count, TestClient[Any]]]:
    config = Config(server=SERVER, models={"echo": Model(kind="echo")}, upstreams={"up": NOWHERE}, **settings)
    gateway = create_gateway(config)

    @asynccontextmanager
    async def using() -> AsyncIterator[Through]:
        yield Through(gateway)

    counter = Counter(Asking(using, lambda: {PATH: ENDPOINT}))
    with TestClient(gateway, base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        portal = client.blocking_portal
        assert portal is not None
        yield lambda chat: portal.call(counter.count, chat, ASKER), client


def chat(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 9, "stream": True}


def test_a_model_of_this_machine_counts_itself() -> None:
    with counting() as (count, _):
        assert count(chat("echo", "one two three")) == 3


def test_an_upstream_s_is_estimated_and_not_asked() -> None:
    with counting() as (count, client):
        assert 100 < count(chat("far", "word " * 100)) < 200
        refused = client.post("/tokenize", json=chat("far", "one"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_capability")


def test_what_is_wrong_with_the_chat_is_told() -> None:
    with counting() as (count, _):
        with pytest.raises(NotFound):
            count(chat("nobody", "x"))
        with pytest.raises(InvalidRequest) as caught:
            count({"model": "echo", "messages": [{"role": "king"}]})
        assert caught.value.param == "messages[0].role"


def test_a_count_is_a_request_and_takes_no_tokens() -> None:
    with counting(metering=Metering(requests_per_minute=2, tokens_per_minute=100)) as (count, client):
        assert count(chat("echo", "one two three")) == 3
        assert count(chat("far", "one two three")) > 3
        limits = client.get("/v1/usage").json()["limits"]
        assert (limits["requests_per_minute"]["used"], limits["tokens_per_minute"]["used"]) == (2, 0)
        with pytest.raises(RateLimited):
            count(chat("echo", "one"))
