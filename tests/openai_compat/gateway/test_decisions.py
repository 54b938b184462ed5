"""Decisions within the whole server: limits, clients that leave, and models of other servers."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, Metering, Model, Route, Server, Upstream, UpstreamModel

PREDICATE = {"type": "predicate", "instructions": "[[answer=A]] true?"}
COLOURS = {"type": "choice", "instructions": "Which colour?", "choices": [{"value": "red"}, {"value": "blue"}]}


class Provider(ThreadingHTTPServer):
    """Likes the option "red", wherever it stands; keeps what it was sent. ``tells``: log probabilities too."""

    daemon_threads = True

    def __init__(self, *, tells: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.tells = tells
        self.bodies: list[dict[str, Any]] = []


class _Answers(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        red, blue = ("A", "B") if 'A: "red"' in body["messages"][-1]["content"] else ("B", "A")
        top = [{"token": red, "logprob": math.log(0.6)}, {"token": f" {blue}", "logprob": math.log(0.2)}]
        logprobs = {"content": [{**top[0], "bytes": None, "top_logprobs": top}]}
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": red}}
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{**choice, "logprobs": logprobs if self.server.tells else None}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(**settings: Any) -> Iterator[TestClient[Any]]:
    config = Config(server=Server(inline=True, port=0), models={"echo": Model(kind="echo")}, **settings)
    with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        yield client


@contextmanager
def elsewhere(*, tells: bool = True) -> Iterator[tuple[Provider, dict[str, Upstream]]]:
    provider = Provider(tells=tells)
    thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    models = {"far": UpstreamModel(name="gpt")}
    try:
        yield provider, {"up": Upstream(base_url=f"http://127.0.0.1:{provider.server_port}/v1", models=models)}
    finally:
        provider.shutdown()
        provider.server_close()
        thread.join()


def decide(client: TestClient[Any], model: str, *questions: dict[str, Any]) -> Any:
    return client.post("/v1/decisions", json={"model": model, "input": "x", "questions": questions})


def test_an_upstream_s_model_decides_by_what_it_tells() -> None:
    with elsewhere() as (provider, upstreams), serving(upstreams=upstreams) as client:
        decision = decide(client, "far", COLOURS, COLOURS).json()
    (answer, _) = decision["answers"]
    assert answer["choice"] == "red"
    assert [entry["probability"] for entry in answer["probabilities"]] == pytest.approx([0.75, 0.25])
    assert decision["model"] == "far"
    assert (decision["usage"]["input_tokens"], decision["usage"]["output_tokens"]) == (28, 4)
    assert len(provider.bodies) == 4
    sent = {"model", "messages", "max_completion_tokens", "temperature", "logprobs", "top_logprobs", "stream"}
    assert all(set(body) == sent for body in provider.bodies)


def test_a_route_that_may_go_elsewhere_is_asked_in_words_that_all_know() -> None:
    routes = {"both": Route(targets=("far", "echo"))}
    with elsewhere() as (provider, upstreams), serving(upstreams=upstreams, routes=routes) as client:
        assert decide(client, "both", COLOURS).status_code == 200
    assert not any("chat_template_kwargs" in body for body in provider.bodies)


def test_a_model_that_tells_no_probabilities_cannot_be_asked() -> None:
    with elsewhere(tells=False) as (_, upstreams), serving(upstreams=upstreams) as client:
        answer = decide(client, "far", COLOURS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_capability")
    assert answer.json()["error"]["param"] == "model"


def test_no_more_is_asked_at_once_than_the_key_may() -> None:
    with serving(metering=Metering(concurrent_requests=1)) as client:
        answer = decide(client, "echo", *[PREDICATE] * 12)
        assert answer.status_code == 200, answer.text
        assert client.get("/v1/usage").json()["limits"]["concurrent_requests"]["used"] == 0


def test_each_chat_counts_and_a_limit_that_is_met_on_the_way_is_told() -> None:
    with serving(metering=Metering(requests_per_minute=3)) as client:
        assert decide(client, "echo", PREDICATE).status_code == 200
        answer = decide(client, "echo", PREDICATE)
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/v1/usage").json()["limits"]["requests_per_minute"]["used"] == 3
