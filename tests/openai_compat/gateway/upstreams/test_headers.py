"""What an upstream is told in headers: ours, and of the client's only what belongs to the API."""

from __future__ import annotations

from typing import Any

from openai_compat.config import Upstream
from openai_compat.gateway.upstreams.headers import HeadersFor

KEY = (("authorization", "Bearer ours"),)
CLIENT = [
    (b"authorization", b"Bearer theirs"), (b"api-key", b"theirs"), (b"x-api-key", b"theirs"), (b"cookie", b"a=b"),
    (b"openai-organization", b"theirs"), (b"openai-project", b"theirs"), (b"x-oc-facts", b"{}"),
    (b"x-oc-session", b"s"), (b"x-stainless-os", b"Linux"), (b"x-stainless-retry-count", b"2"),
    (b"x-forwarded-for", b"10.0.0.1"), (b"forwarded", b"for=x"), (b"via", b"1.1 x"), (b"x-real-ip", b"10.0.0.1"),
    (b"origin", b"http://x"), (b"referer", b"http://x"), (b"user-agent", b"theirs"), (b"accept-encoding", b"br"),
    (b"x-request-id", b"theirs"), (b"host", b"here"), (b"content-length", b"5"),
    (b"content-type", b"application/json; charset=utf-8"), (b"accept", b"text/event-stream"),
    (b"openai-beta", b"assistants=v2"), (b"anthropic-beta", b"b"), (b"anthropic-version", b"2023-06-01"),
    (b"idempotency-key", b"once"),
]  # fmt: skip


def made(client: Any = (), *, body: bool = True, key: Any = KEY, **settings: Any) -> dict[str, str]:
    headers = HeadersFor(Upstream(base_url="http://h", **settings)).make(list(client), key, "req-1", body=body)
    assert len(headers) == len({name for name, _ in headers})
    return {name.decode(): value.decode() for name, value in headers}


def test_of_the_clients_headers_only_those_of_the_api_go() -> None:
    sent = made(CLIENT)
    agent = sent.pop("user-agent")
    assert agent.startswith("openai-compat/")
    assert sent == {
        "authorization": "Bearer ours",
        "accept-encoding": "identity",
        "x-request-id": "req-1",
        "content-type": "application/json; charset=utf-8",
        "accept": "text/event-stream",
        "openai-beta": "assistants=v2",
        "anthropic-beta": "b",
        "anthropic-version": "2023-06-01",
        "idempotency-key": "once",
    }


def test_without_a_key_the_clients_does_not_take_its_place() -> None:
    assert "authorization" not in made(CLIENT, key=())


def test_what_is_configured_wins_over_ours_and_theirs() -> None:
    configured = {
        "OpenAI-Beta": "mine",
        "User-Agent": "mine",
        "X-Title": "mine",
        "Authorization": "Basic mine",
        "X-Request-ID": "mine",
    }
    sent = made(CLIENT, headers=configured)
    assert {name: sent[name.lower()] for name in configured} == configured


def test_a_body_without_a_type_is_json_and_no_body_has_none() -> None:
    assert made()["content-type"] == "application/json"
    assert "content-type" not in made(body=False)


def test_a_new_key_is_used_at_once() -> None:
    headers = HeadersFor(Upstream(base_url="http://h"))
    assert (b"authorization", b"Bearer ours") in headers.make([], KEY, "r", body=False)
    renewed = headers.make([], (("authorization", "Bearer new"),), "r", body=False)
    assert [value for name, value in renewed if name == b"authorization"] == [b"Bearer new"]


def test_a_request_leaves_nothing_for_the_next_one() -> None:
    headers = HeadersFor(Upstream(base_url="http://h"))
    headers.make(CLIENT, KEY, "req-1", body=True)
    assert b"idempotency-key" not in dict(headers.make([], KEY, "req-2", body=True))
    assert (b"x-request-id", b"req-2") in headers.make([], KEY, "req-2", body=True)


def test_two_clients_may_number_their_requests_alike() -> None:
    headers = HeadersFor(Upstream(base_url="http://h"))
    sent = [dict(headers.make(CLIENT, KEY, "r", body=True, owner=owner))[b"idempotency-key"] for owner in ("a", "b", "a")]
    assert sent[0] == sent[2] != sent[1]
    assert b"once" not in sent
