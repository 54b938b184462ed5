"""What a browser is told: which pages may ask, with which headers, and what they may read."""

from __future__ import annotations

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.auth import hash_key
from openai_compat.config import Auth, Config, Model, Server

PAGE = "http://localhost:3000"
CHAT = "/v1/chat/completions"
HI = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
ASKED = "authorization,content-type,x-stainless-os,x-stainless-retry-count,openai-organization,openai-project,x-odd"


def gateway(*origins: str, keys: tuple[str, ...] = ()) -> TestClient:
    server = Server(inline=True, port=0, cors_origins=origins)
    config = Config(server=server, auth=Auth(keys=keys), models={"echo": Model(source="", kind="echo")})
    return TestClient(create_gateway(config), base_url="http://127.0.0.1")  # type: ignore[arg-type]


def question(origin: str) -> dict[str, str]:
    return {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": ASKED}


def cors(answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_a_configured_page_may_send_what_the_sdk_sends_before_it_has_shown_a_key() -> None:
    with gateway(PAGE, keys=(hash_key("k"),)) as client:
        answer = client.options(CHAT, headers=question(PAGE))
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert allowed == ASKED.split(",")[:-1]
    assert answer.headers["vary"] == "origin"
    assert answer.headers["x-request-id"]


def test_a_configured_page_may_read_answers_and_errors_and_their_ids() -> None:
    with gateway(PAGE, keys=(hash_key("k"),)) as client:
        for key, status in (("k", 200), ("wrong", 401)):
            answer = client.post(CHAT, json=HI, headers={"origin": PAGE, "authorization": f"Bearer {key}"})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
        stream = client.post(CHAT, json={**HI, "stream": True}, headers={"origin": PAGE, "x-api-key": "k"})
        assert stream.headers["access-control-allow-origin"] == PAGE
        assert stream.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3001",
        "https://localhost:3000",
        f"{PAGE}.evil.example",
        f"{PAGE}0",
        f"{PAGE}/",
        "http://localhostx3000",
        "http://localhost",
        "http://evil.example#http://localhost:3000",
        f"{PAGE}, {PAGE}",
        "HTTP://LOCALHOST:3000",
        "*",
        "null",
        "",
    ],
)
def test_any_other_page_may_nothing(origin) -> None:
    with gateway(PAGE) as client:
        assert cors(client.options(CHAT, headers=question(origin))) == {}
        assert cors(client.get("/v1/models", headers={"origin": origin})) == {}


def test_without_origins_no_page_may_anything() -> None:
    with gateway() as client:
        assert cors(client.options(CHAT, headers=question(PAGE))) == {}
        answer = client.get("/v1/models", headers={"origin": PAGE})
        assert cors(answer) == {}
        assert "vary" not in answer.headers


def test_a_star_means_every_page() -> None:
    with gateway("*", keys=(hash_key("k"),)) as client:
        answer = client.get("/v1/models", headers={"origin": "https://a.example", "x-api-key": "k"})
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers


def test_a_page_is_told_what_its_key_has_left() -> None:
    with gateway(PAGE) as client:
        exposed = client.get("/v1/models", headers={"origin": PAGE}).headers["access-control-expose-headers"].split(", ")
    kinds = ("limit", "remaining", "reset")
    assert {f"x-ratelimit-{kind}-{what}" for kind in kinds for what in ("requests", "tokens")} <= set(exposed)


def test_a_permission_is_the_same_for_paths_that_are_not_there() -> None:
    with gateway(PAGE, keys=(hash_key("k"),)) as client:
        assert client.options("/v1/nothing/here", headers=question(PAGE)).status_code == 204
        assert client.post("/v1/nothing/here", headers={"origin": PAGE}).status_code == 401


def test_an_ordinary_options_request_is_answered_as_ever() -> None:
    with gateway(PAGE) as client:
        answer = client.options(CHAT, headers={"origin": PAGE})
    assert "POST" in answer.headers["allow"]
