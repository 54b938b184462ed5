"""Moderation by models of other servers: request and answer go through as they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, Server, Upstream, UpstreamModel

RESULT = {"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.9}, "theirs": 1}
PARTS = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,xx"}}, {"type": "text", "text": "x"}]


class Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, body))  # type: ignore[attr-defined]
        data = json.dumps({"id": "modr-1", "model": body["model"], "results": [RESULT]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving() -> Iterator[tuple[TestClient[Any], list[Any]]]:
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    provider.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    models = {"omni": UpstreamModel(name="omni-moderation-latest", capabilities=("classify_text",))}
    upstream = Upstream(base_url=f"http://127.0.0.1:{provider.server_port}/v1", models=models)
    try:
        config = Config(server=Server(inline=True, port=0), upstreams={"up": upstream})
        with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
            yield client, provider.seen  # type: ignore[attr-defined]
    finally:
        provider.shutdown()
        provider.server_close()
        thread.join()


def test_an_upstream_s_model_gets_pictures_too_and_its_answer_is_not_changed() -> None:
    with serving() as (client, seen):
        answer = client.post("/v1/moderations", json={"model": "omni", "input": PARTS, "theirs": True})
    assert answer.json() == {"id": "modr-1", "model": "omni", "results": [RESULT]}
    assert seen == [("/v1/moderations", {"model": "omni-moderation-latest", "input": PARTS, "theirs": True})]


def test_without_a_model_the_upstream_s_answers_where_none_of_this_machine_can() -> None:
    with serving() as (client, seen):
        assert client.post("/v1/moderations", json={"input": "x"}).json()["results"] == [RESULT]
    assert seen[0][1]["model"] == "omni-moderation-latest"
