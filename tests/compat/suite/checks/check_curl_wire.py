"""What goes over the wire, by curl: headers, streams, packed bodies."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any
from urllib.parse import quote

import pytest
from kit.checks import checks
from kit.curl import Curl
from kit.expect import assert_error
from kit.server import Server

check = checks("curl", needs=("chat",))
CHAT = "/chat/completions"
HI = [{"role": "user", "content": "Hi"}]


def chat(server: Server, **fields: Any) -> dict[str, Any]:
    return {"model": server.model, "messages": HI, "max_tokens": 4, "temperature": 0, **fields}


@check("wire.stream.done", "A stream ends with `data: [DONE]`.")
def check_done(curl: Curl, server: Server) -> None:
    assert curl.post(CHAT, chat(server, stream=True)).events()[-1] == ("", "[DONE]")


@check("wire.stream.headers", "A stream is text/event-stream, not packed.")
def check_stream_headers(curl: Curl, server: Server) -> None:
    answer = curl.post(CHAT, chat(server, stream=True), "-H", "accept-encoding: gzip, br, zstd")
    assert answer.headers.get_content_type() == "text/event-stream"
    assert answer.headers.get("content-encoding", "identity") == "identity"


@check("wire.stream.no-cache", "A stream tells proxies to keep and to buffer nothing.", promise="ours")
def check_no_cache(curl: Curl, server: Server) -> None:
    headers = curl.post(CHAT, chat(server, stream=True)).headers
    assert "no-cache" in headers.get("cache-control", "")
    assert headers.get("x-accel-buffering") == "no"


@check("wire.stream.request-id", "A stream has an x-request-id.")
def check_stream_request_id(curl: Curl, server: Server) -> None:
    assert curl.post(CHAT, chat(server, stream=True)).headers.get("x-request-id")


@check("wire.stream.usage-null", "With include_usage the other chunks say `usage: null`.")
def check_usage_null(curl: Curl, server: Server) -> None:
    *others, last = curl.post(CHAT, chat(server, stream=True, stream_options={"include_usage": True})).chunks()
    assert last.get("usage"), "no usage"
    assert all("usage" in chunk and chunk["usage"] is None for chunk in others)


@check("wire.stream.keys", "Each chunk has id, object, created, model and choices; each choice index, delta and finish_reason.")
def check_keys(curl: Curl, server: Server) -> None:
    for chunk in curl.post(CHAT, chat(server, stream=True)).chunks():
        assert {"id", "object", "created", "model", "choices"} <= set(chunk)
        assert chunk["object"] == "chat.completion.chunk"
        assert all({"index", "delta", "finish_reason"} <= set(choice) for choice in chunk["choices"])


@check("wire.stream.unnamed", "Chat's events have no name: a named one is lost on OpenAI's SDKs.")
def check_unnamed(curl: Curl, server: Server) -> None:
    assert {event for event, _ in curl.post(CHAT, chat(server, stream=True)).events()} <= {"", "message"}


@check("wire.request-id", "An answer has an x-request-id.")
def check_request_id(curl: Curl, server: Server) -> None:
    assert curl.post(CHAT, chat(server)).headers.get("x-request-id")


@check("wire.request-id.own", "Two answers have two ids.")
def check_request_id_own(curl: Curl, server: Server) -> None:
    first, second = (curl.post(CHAT, chat(server)) for _ in range(2))
    assert first.json()["id"] != second.json()["id"]


@check("wire.request-id.echo", "The client's own x-request-id comes back.", promise="ours")
def check_echo(curl: Curl, server: Server) -> None:
    assert curl.post(CHAT, chat(server), "-H", "x-request-id: conformance-1").headers.get("x-request-id") == "conformance-1"


@check("wire.content-length.none", "A body that is sent in chunks, of no known length, is read.")
def check_chunked(curl: Curl, server: Server) -> None:
    assert curl.post(CHAT, chat(server), "-H", "transfer-encoding: chunked").status == 200


@check("wire.expect", "A client that waits for 100 Continue is answered.")
def check_expect(curl: Curl, server: Server) -> None:
    began = time.monotonic()
    answer = curl.post(CHAT, chat(server), "-H", "expect: 100-continue", "--expect100-timeout", "20")
    assert answer.status == 200
    assert time.monotonic() - began < 20, "nobody said 100 Continue"


@check("wire.charset", "`application/json; charset=utf-8` is JSON, too.")
def check_charset(curl: Curl, server: Server) -> None:
    words = ("-H", "content-type: application/json; charset=utf-8", "--data-binary", "@-")
    assert curl.run(CHAT, *words, data=json.dumps(chat(server)).encode()).status == 200


@check("wire.unicode", "Text beyond ASCII goes in and out, whole, as UTF-8.")
def check_unicode(curl: Curl, server: Server) -> None:
    messages = [{"role": "user", "content": "Grüße, 你好, 🙂?"}]
    answer = curl.post(CHAT, json.dumps(chat(server, messages=messages), ensure_ascii=False).encode())
    assert answer.status == 200
    assert isinstance(answer.json()["choices"][0]["message"]["content"], str)


@check("wire.gzip", "A body packed with gzip is read.", promise="ours")
def check_gzip(curl: Curl, server: Server) -> None:
    body = gzip.compress(json.dumps(chat(server)).encode())
    assert curl.post(CHAT, body, "-H", "content-encoding: gzip").status == 200


@check("wire.deflate", "A body packed with deflate is read.", promise="ours")
def check_deflate(curl: Curl, server: Server) -> None:
    body = zlib.compress(json.dumps(chat(server)).encode())
    assert curl.post(CHAT, body, "-H", "content-encoding: deflate").status == 200


@check("wire.zstd", "A body packed with zstd, as Codex sends it, is read.", promise="ours")
def check_zstd(curl: Curl, server: Server) -> None:
    body = stored_as_zstd(json.dumps(chat(server)).encode())
    assert curl.post(CHAT, body, "-H", "content-encoding: zstd").status == 200


def stored_as_zstd(data: bytes) -> bytes:
    """A frame of one raw block (RFC 8878): Python has had a zstd of its own only since 3.14."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0b10100000]) + len(data).to_bytes(4, "little")
    return head + (1 | len(data) << 3).to_bytes(3, "little") + data


@check("wire.packed.broken", "A body that is not what its content-encoding says is a 400 (or 415), not a 500.", promise="ours")
def check_broken_gzip(curl: Curl) -> None:
    assert_error(curl.post(CHAT, b"no gzip at all", "-H", "content-encoding: gzip"), 400, 415)


@check("wire.packed.bomb", "A packed body of a gigabyte is refused.", promise="ours")
def check_bomb(curl: Curl) -> None:
    packer = zlib.compressobj(wbits=31)
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    assert_error(curl.post(CHAT, body, "-H", "content-encoding: gzip"), 400, 413, 415)


@check("wire.cors", "A browser's preflight is answered, with the SDK's headers allowed.", promise="ours")
def check_cors(curl: Curl) -> None:
    asked = "authorization,content-type,x-stainless-retry-count,x-stainless-lang"
    words = ("-X", "OPTIONS", "-H", "origin: http://localhost:3000", "-H", "access-control-request-method: POST")
    answer = curl.run(CHAT, *words, "-H", f"access-control-request-headers: {asked}", key=False)
    if "access-control-allow-origin" not in answer.headers:
        pytest.skip("absent: no origin is allowed")
    allowed = answer.headers.get("access-control-allow-headers", "").lower()
    assert allowed == "*" or all(name in allowed for name in asked.split(","))


@check(
    "models.list",
    "The list of models has the model, each with id, object, created as an integer, and owned_by.",
    needs=("models",),
)
def check_models(curl: Curl, server: Server) -> None:
    found = curl.get("/models").json()
    assert found["object"] == "list"
    assert server.model in [model["id"] for model in found["data"]]
    for model in found["data"]:
        assert (model["object"], type(model["created"]), type(model["owned_by"])) == ("model", int, str)


@check("models.one", "One model can be asked for, by its id written as in a URL.", needs=("models",))
def check_model(curl: Curl, server: Server) -> None:
    answer = curl.get(f"/models/{quote(server.model, safe='')}")
    assert answer.status == 200
    assert answer.json()["id"] == server.model


@check(
    "models.all",
    "Each listed model can be asked for, slashes and colons in its id as they are.",
    needs=("models",),
    promise="ours",
)
def check_each_model(curl: Curl) -> None:
    ids = [model["id"] for model in curl.get("/models").json()["data"]][:20]
    assert {id: curl.get(f"/models/{quote(id, safe='/:')}").status for id in ids} == dict.fromkeys(ids, 200)


@check("models.unknown", "An unknown model is a 404 with OpenAI's error body and the code model_not_found.", needs=("models",))
def check_unknown(curl: Curl) -> None:
    assert_error(curl.get("/models/no-such-model-anywhere"), 404, code="model_not_found")


@check("wire.left.whole", "A client that leaves before a whole answer came frees the server for the next ones.")
def check_left_whole(curl: Curl, server: Server) -> None:
    story = [{"role": "user", "content": "Tell me a story about a fox and a river."}]
    for _ in range(6):
        with pytest.raises(AssertionError, match="curl"):
            curl.post(CHAT, chat(server, messages=story, max_tokens=4000), seconds=0.5)
    assert curl.post(CHAT, chat(server, max_tokens=2), seconds=12).status == 200


@check("tokenize", "`/tokenize` gives the ids of a text.", needs=("tokenize",), promise="ours")
def check_tokenize(curl: Curl, server: Server) -> None:
    names = ("prompt", "content")  # vLLM's, and llama.cpp's
    answers = [curl.post(f"{server.origin}/tokenize", {"model": server.model, name: "Hello there"}) for name in names]
    found = [answer.json()["tokens"] for answer in answers if answer.status == 200]
    assert any(tokens and all(type(token) is int for token in tokens) for tokens in found), "no ids by either name of the text"
