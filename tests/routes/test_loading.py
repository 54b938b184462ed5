"""Loading and unloading by clients, as llama.cpp's server has it: the whole gateway, with models in its own process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.auth import hash_key
from openai_compat.config import Auth, Config, Model, Server, Upstream, UpstreamModel

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


def config(**parts: Any) -> Config:
    upstreams = {"lab": Upstream(base_url="http://127.0.0.1:1/v1", models={"far": UpstreamModel()})}
    models = {"org/small:q4": Model(kind="echo"), "kept": Model(kind="echo", pin=True)}
    return Config(
        server=Server(port=0, inline=True), models=models, upstreams=upstreams, aliases={"s": "org/small:q4"}, **parts
    )


@pytest.fixture
def client() -> Iterator[TestClient[Any]]:
    with TestClient(create_gateway(config()), base_url="http://127.0.0.1") as client:
        yield client


def states(client: TestClient[Any]) -> dict[str, str]:
    return {model["id"]: model["status"]["value"] for model in client.get("/models").json()["data"]}


def until_it_is(client: TestClient[Any], name: str, state: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while states(client)[name] != state:
        assert time.monotonic() < deadline, states(client)
        time.sleep(0.02)


def test_models_are_listed_with_their_states_in_llama_cpp_s_shape(client: TestClient[Any]) -> None:
    listed = client.get("/models").json()
    assert listed["object"] == "list"
    assert [(model["id"], model["object"]) for model in listed["data"]][:2] == [("org/small:q4", "model"), ("kept", "model")]
    assert states(client) == {"org/small:q4": "unloaded", "kept": "unloaded", "far": "loaded", "s": "unloaded"}


def test_a_model_is_loaded_and_unloaded_by_its_name_or_an_alias(client: TestClient[Any]) -> None:
    for name in ("org/small:q4", "s"):
        answer = client.post("/models/load", json={"model": name})
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        until_it_is(client, "org/small:q4", "loaded")
        assert client.post("/models/load", json={"model": name}).json() == {"success": True}
        assert client.post("/models/unload", json={"model": name}).json() == {"success": True}
        until_it_is(client, "org/small:q4", "unloaded")
    assert client.post("/models/unload", json={"model": "s"}).json() == {"success": True}


def test_a_pinned_model_stays(client: TestClient[Any]) -> None:
    client.post("/models/load", json={"model": "kept"})
    until_it_is(client, "kept", "loaded")
    answer = client.post("/models/unload", json={"model": "kept"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "model_pinned")
    assert states(client)["kept"] == "loaded"


@pytest.mark.parametrize("path", ["/models/load", "/models/unload"])
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b'{"model": "nobody"}', 404, "model"),
        (b'{"model": "far"}', 400, "model"),
        (b'{"model": 5}', 400, "model"),
        (b"{}", 400, "model"),
        (b'{"model": ""}', 400, "model"),
        (b"[" * 50_000, 400, None),
        (b" " * 100_000, 413, None),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    client: TestClient[Any], path: str, body: bytes, status: int, param: str | None
) -> None:
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("path", ["/models/load", "/models/unload"])
@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"origin": "http://evil.example"}])
def test_no_web_page_can_ask_for_it_without_asking_first(client: TestClient[Any], path: str, headers: dict[str, str]) -> None:
    answer = client.post(path, content=b'{"model": "kept"}', headers=headers)
    assert answer.status_code in (403, 415)
    assert states(client)["kept"] == "unloaded"


def test_a_key_of_the_configuration_may_do_it_and_no_key_is_refused() -> None:
    with TestClient(create_gateway(config(auth=Auth(keys=(hash_key("sk-all"),)))), base_url="http://127.0.0.1") as client:
        for method, path in (("GET", "/models"), ("POST", "/models/load"), ("POST", "/models/unload")):
            assert client.request(method, path, json={"model": "kept"}).status_code == 401
            answer = client.request(method, path, json={"model": "s"}, headers={"x-api-key": "sk-all"})
            assert answer.status_code == 200 or answer.json()["error"]["code"] == "model_busy"  # it is being loaded
