"""Bad requests of all kinds, by curl: the right status, and OpenAI's error body, on every path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kit.checks import checks
from kit.curl import Curl
from kit.expect import assert_error
from kit.server import Server

check = checks("curl", needs=("chat",))
CHAT = "/chat/completions"
HI = [{"role": "user", "content": "Hi"}]


def chat(server: Server, **fields: Any) -> dict[str, Any]:
    return {"model": server.model, "messages": HI, "max_tokens": 2, **fields}


@check("errors.no-such-path", "A path that does not exist is a 404 with OpenAI's error body.")
def check_no_such_path(curl: Curl) -> None:
    assert_error(curl.get("/no/such/path"), 404)


@check("errors.method", "A method that a path does not know is a 405 (or 404) with OpenAI's error body.")
def check_method(curl: Curl) -> None:
    assert_error(curl.get(CHAT), 404, 405)


@check("errors.outside", "A path outside of /v1 is a 404 with OpenAI's error body.", promise="ours")
def check_outside(curl: Curl, server: Server) -> None:
    assert_error(curl.get(f"{server.origin}/no-such-path"), 404)


BODIES: dict[str, tuple[str, bytes]] = {
    "malformed": ("JSON that breaks off is a 400.", b'{"model": "m", "messages": ['),
    "empty": ("An empty body is a 400.", b""),
    "no-object": ("JSON that is no object is a 400.", b"[]"),
    "no-text": ("Bytes that are no UTF-8 are a 400.", b'{"model": "\xff\xfe"}'),
    "deep": ("JSON of a depth of 100,000 is a 400.", b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "nan": ("NaN, which is no JSON, is a 400.", b'{"model": "m", "messages": [], "temperature": NaN}'),
}


def _body(name: str, says: str, body: bytes) -> Any:
    @check(f"errors.body.{name}", says)
    def check_body(curl: Curl) -> None:
        assert_error(curl.post(CHAT, body), 400)

    return check_body


globals().update({f"check_body_{name}": _body(name, *given) for name, given in BODIES.items()})


@check("errors.missing.model", "A request without a model is a 400.")
def check_no_model(curl: Curl) -> None:
    assert_error(curl.post(CHAT, {"messages": HI}), 400)


@check("errors.missing.messages", "A request without messages is a 400.")
def check_no_messages(curl: Curl, server: Server) -> None:
    assert_error(curl.post(CHAT, {"model": server.model}), 400)


@check("errors.param", "A value of the wrong type is a 400 whose `param` is the field.")
def check_param(curl: Curl, server: Server) -> None:
    assert_error(curl.post(CHAT, chat(server, temperature="hot")), 400, param="temperature")


@check("errors.param.deep", "Deep within a list `param` says where, as OpenAI does: `messages[0].role`.")
def check_param_deep(curl: Curl, server: Server) -> None:
    assert_error(curl.post(CHAT, chat(server, messages=[{"role": 5, "content": "Hi"}])), 400, param="messages[0].role")


@check("errors.type", "The type of a bad request's error is invalid_request_error.")
def check_type(curl: Curl, server: Server) -> None:
    answer = curl.post(CHAT, chat(server, temperature=99))
    assert_error(answer, 400)
    assert answer.json()["error"]["type"] == "invalid_request_error"


@check("errors.model", "An unknown model is a 404 with the code model_not_found.")
def check_model(curl: Curl, server: Server) -> None:
    assert_error(curl.post(CHAT, chat(server, model="no-such-model-anywhere")), 404, code="model_not_found")


@check("errors.code", "An error's code is a text or null, no number, and `param` is there.")
def check_code(curl: Curl, server: Server) -> None:
    error = curl.post(CHAT, chat(server, messages="Hi")).json()["error"]
    assert error["code"] is None or isinstance(error["code"], str), f"code {error['code']!r}"
    assert "param" in error, "no param"


@check("errors.json", "An error's content type is application/json.")
def check_json(curl: Curl) -> None:
    assert curl.post(CHAT, b"{").headers.get_content_type() == "application/json"


@check("errors.request-id", "An error has an x-request-id, as an answer has.")
def check_request_id(curl: Curl) -> None:
    assert curl.post(CHAT, b"{").headers.get("x-request-id")


@check("errors.key.missing", "A request without a key is a 401 with OpenAI's error body, where keys are asked for.")
def check_no_key(curl: Curl, server: Server) -> None:
    answer = curl.run(CHAT, "-H", "content-type: application/json", "--data-binary", "@-", data=encoded(server), key=False)
    if answer.status == 200:
        pytest.skip("absent: the server asks for no key")
    assert_error(answer, 401)


@check("errors.key.wrong", "A wrong key is a 401 with the code invalid_api_key.")
def check_wrong_key(curl: Curl, server: Server) -> None:
    words = ("-H", "authorization: Bearer sk-wrong", "-H", "content-type: application/json", "--data-binary", "@-")
    answer = curl.run(CHAT, *words, data=encoded(server), key=False)
    if answer.status == 200:
        pytest.skip("absent: the server asks for no key")
    assert_error(answer, 401, code="invalid_api_key")


def encoded(server: Server) -> bytes:
    return json.dumps(chat(server)).encode()


@check("errors.never-5xx", "What is wrong with a request is never a 5xx: SDKs would send it twice more.")
def check_never_5xx(curl: Curl, server: Server) -> None:
    odd: list[dict[str, Any]] = [
        {"messages": "Hi"},
        {"messages": [5]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [{"content": "Hi"}]},
        {"tools": "all"},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_schema"}},
        {"logit_bias": {"a": "b"}},
        {"stop": 5},
        {"stream": "perhaps"},
        {"stream_options": 5},
        {"seed": 2**70},
    ]
    statuses = {json.dumps(fields): curl.post(CHAT, chat(server, **fields), seconds=8).status for fields in odd}
    assert {fields: status for fields, status in statuses.items() if status >= 500} == {}


@check("errors.stream.before", "A bad request that asks for a stream is a 400 in JSON, not a stream.")
def check_before_stream(curl: Curl, server: Server) -> None:
    answer = curl.post(CHAT, chat(server, stream=True, temperature="hot"))
    assert_error(answer, 400)
    assert answer.headers.get_content_type() == "application/json"
