"""Bad input of all kinds: the right status, and OpenAI's error body naming the field, on every path."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

if sys.version_info >= (3, 14):
    from compression.zstd import compress as zstd_compress
else:
    from backports.zstd import compress as zstd_compress

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "echo", "messages": HI, **fields}).encode()


def message(**fields: Any) -> bytes:
    return json.dumps({"model": "echo", "messages": [fields]}).encode()


def completion(**fields: Any) -> bytes:
    return json.dumps({"model": "echo", "prompt": "hi", **fields}).encode()


BAD_FIELDS = [
    (chat(temperature=9), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(top_p=-0.1), "top_p"),
    (chat(n=0), "n"),
    (chat(n=1000), "n"),
    (chat(max_tokens=-1), "max_tokens"),
    (chat(max_completion_tokens=1.5), "max_completion_tokens"),
    (chat(presence_penalty=5), "presence_penalty"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(logit_bias={"a": 1}), "logit_bias"),
    (chat(logit_bias={"1": 101}), "logit_bias"),
    (chat(stop=["a", "b", "c", "d", "e"]), "stop"),
    (chat(seed=2**70), "seed"),
    (chat(stream="yes"), "stream"),
    (chat(messages="hi"), "messages"),
    (chat(messages=[]), "messages"),
    (chat(messages=None), "messages"),
    (chat(model=None), "model"),
    (chat(mode="nonsense"), "mode"),
    (message(role="wizard", content="hi"), "messages[0].role"),
    (message(content="hi"), "messages[0].role"),
    (message(role="user", content=5), "messages[0].content"),
    (message(role="user", content=[{"type": "smell"}]), "messages[0].content[0].type"),
    (message(role="user", content=[{"type": "text"}]), "messages[0].content[0].text"),
    (chat(response_format={"type": "json_object"}), "response_format"),
    (chat(tools=[{"type": "custom", "custom": {"name": "f"}}]), "tools"),
    (chat(modalities=["audio"]), "modalities"),
    (chat(web_search_options={}), "web_search_options"),
]


@pytest.mark.parametrize(("body", "param"), BAD_FIELDS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_chat_field_is_a_400_that_names_it(http: httpx2.Client, body: bytes, param: str) -> None:
    answer = http.post(CHAT, content=body, headers={"content-type": "application/json"})
    check(answer, 400)
    assert answer.json()["error"]["param"] == param
    assert param.split("[")[0].split(".")[0] in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (completion(best_of=1, n=2), "best_of"),
        (completion(prompt=None), "prompt"),
        (completion(prompt={"a": 1}), "prompt"),
        (completion(prompt=[]), "prompt"),
        (completion(logprobs=99), "logprobs"),
        (completion(suffix="end"), "suffix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_completion_field_is_a_400_that_names_it(http: httpx2.Client, body: bytes, param: str) -> None:
    answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    check(answer, 400)
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"model": "echo",}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "cut", "list", "null", "string", "not utf-8", "trailing comma", "deep list", "deep object"],
)
def test_what_is_no_json_object_is_a_400(http: httpx2.Client, body: bytes) -> None:
    check(http.post(CHAT, content=body, headers={"content-type": "application/json"}), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nope", 404),
        ("POST", "/v1/nope", 404),
        ("GET", CHAT, 405),
        ("DELETE", CHAT, 405),
        ("PUT", "/v1/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/models/no-such-model", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
    ],
)
def test_wrong_paths_and_methods_have_the_same_body(http: httpx2.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    check(answer, status)
    assert status != 405 or answer.headers["allow"]


def test_a_body_over_the_limit_is_a_413(http: httpx2.Client) -> None:
    check(http.post(CHAT, content=b" " * (33 * 2**20), headers={"content-type": "application/json"}), 413)


def test_a_gzip_bomb_is_a_413(http: httpx2.Client) -> None:
    bomb = gzip.compress(b" " * (64 * 2**20))
    check(http.post(CHAT, content=bomb, headers={"content-type": "application/json", "content-encoding": "gzip"}), 413)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd_compress)])
def test_a_packed_body_is_read(http: httpx2.Client, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = {"content-type": "application/json", "content-encoding": encoding}
    assert http.post(CHAT, content=pack(chat()), headers=packed).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/xml"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json", "content-encoding": "nonsense"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_an_unknown_media_type_or_coding_is_a_415(http: httpx2.Client, headers: dict[str, str]) -> None:
    check(http.post(CHAT, content=chat(), headers=headers), 415)


def test_a_broken_gzip_body_is_a_400(http: httpx2.Client) -> None:
    packed = {"content-type": "application/json", "content-encoding": "gzip"}
    check(http.post(CHAT, content=b"not gzip", headers=packed), 400)


def test_a_picture_for_a_text_model_is_refused(http: httpx2.Client, model: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {"model": model, "messages": [{"role": "user", "content": [picture]}]}
    answer = http.post(CHAT, json=body)
    check(answer, 400)
    assert answer.json()["error"]["code"] == "unsupported_capability"


def test_every_answer_carries_a_request_id_and_a_clients_own_is_kept(http: httpx2.Client) -> None:
    assert http.get("/v1/models").headers["x-request-id"]
    assert http.get("/nope", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    with http.stream("POST", CHAT, content=chat(stream=True)) as answer:
        assert answer.headers["x-request-id"]


def test_the_gateways_own_headers_cannot_be_sent_by_a_client(http: httpx2.Client) -> None:
    forged = {"x-oc-facts": '{"request_id":"x","model":"other","public_model":"forged"}'}
    answer = http.post(CHAT, content=chat(), headers={"content-type": "application/json", **forged})
    assert answer.status_code == 200
    assert answer.json()["model"] == "echo"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/echo", "/health/live", "/metrics", "/models/sse", "/schema"])
def test_head_is_answered_without_a_body(http: httpx2.Client, path: str) -> None:
    answer = http.head(path)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"]
    assert answer.content == b""
    assert http.get("/health/live").status_code == 200


def test_model_ids_with_slashes_and_colons_are_found_however_they_are_written(http: httpx2.Client) -> None:
    for path in ("org/name:tag", "org%2Fname%3Atag"):
        assert http.get(f"/v1/models/{path}").json()["id"] == "org/name:tag"


def check(answer: httpx2.Response, status: int) -> None:
    """The status, and a body that every SDK reads."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    assert "Traceback" not in answer.text
    assert "/site-packages/" not in answer.text
