"""What a refusal says, in every shape that servers have for it, and what it means."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from openai_compat.errors import error_body, kind_of
from openai_compat.gateway.order import Failure
from openai_compat.gateway.upstreams.errors import Refusal, failure_of
from openai_compat.gateway.upstreams.said import Said, read_error, retry_after_of

KEY = "sk-secret-key-of-the-server-0123456789"
SHAPES = {
    "openai": {"error": {"message": "it is wrong", "type": "invalid_request_error", "param": "messages", "code": None}},
    "vllm, older": {"object": "error", "message": "it is wrong", "type": "BadRequestError", "param": None, "code": 400},
    "sglang": {"object": "error", "message": "it is wrong", "type": "BadRequest", "param": None, "code": 400},
    "fastapi": {"detail": "it is wrong"},
    "ollama": {"error": "it is wrong"},
    "gemini": [{"error": {"code": 400, "message": "it is wrong", "status": "INVALID_ARGUMENT"}}],
    "llama.cpp": {"error": {"code": 400, "message": "it is wrong", "type": "invalid_request_error"}},
    "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": "it is wrong"}},
    "nested": {"detail": {"message": "it is wrong"}},
    "two fields": {"error": "Bad Request", "message": "it is wrong"},
    "errors": {"errors": [{"message": "it is wrong"}]},
}
TOO_LONG = [
    {"error": {"message": "x", "code": "context_length_exceeded"}},
    {"error": {"message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"}},
    {
        "object": "error",
        "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "code": 400,
    },
    {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}},
    {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 213462 tokens > 200000 maximum"},
    },
    {"error": {"message": "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."}},
    {"detail": "Please reduce the length of the messages."},
]
HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx 10.0.0.1</body></html>"


def encoded(shape: Any) -> bytes:
    return json.dumps(shape).encode()


def meaning(status: int, body: bytes, *, names_model: bool = True, wait: float | None = None) -> Failure | Refusal:
    return failure_of(status, read_error(body, (KEY,)), names_model=names_model, retry_after=wait)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_a_client_error_is_read_by_the_client_in_one_shape(shape: str, status: int) -> None:
    refusal = meaning(status, encoded(SHAPES[shape]))
    assert isinstance(refusal, Refusal)
    error = json.loads(refusal.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (refusal.status, error["message"]) == (status, "it is wrong")
    assert isinstance(error["type"], str)


def test_the_field_at_fault_is_named_as_the_provider_names_it() -> None:
    openai = meaning(400, encoded({"error": {"message": "m", "type": "t", "param": "n", "code": "c"}}))
    assert isinstance(openai, Refusal)
    assert json.loads(openai.body) == {"error": {"message": "m", "type": "t", "param": "n", "code": "c"}}
    fastapi = meaning(422, encoded({"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Field required"}]}))
    assert isinstance(fastapi, Refusal)
    assert json.loads(fastapi.body)["error"]["param"] == "messages.0.role"
    assert json.loads(fastapi.body)["error"]["message"] == "messages.0.role: Field required"


# status → cause, our status
MEANINGS = {
    401: ("refused", 502), 402: ("refused", 502), 403: ("refused", 502), 404: ("refused", 502), 405: ("refused", 502),
    408: ("timeout", 504), 429: ("rate_limited", 429), 500: ("server_error", 502), 501: ("refused", 502),
    502: ("server_error", 502), 503: ("server_error", 503), 504: ("timeout", 504), 520: ("server_error", 502),
    524: ("timeout", 504), 529: ("server_error", 503), 101: ("server_error", 502), 302: ("server_error", 502),
    499: ("server_error", 502),
}  # fmt: skip


@pytest.mark.parametrize("status", MEANINGS)
@pytest.mark.parametrize("body", [*map(encoded, SHAPES.values()), HTML, b"", b"\xff\xfe", b"{", b"[", f"oh {KEY}".encode()])
def test_what_another_target_may_do_better_is_a_failure_in_our_own_words(status: int, body: bytes) -> None:
    failure = meaning(status, body)
    assert isinstance(failure, Failure)
    assert (failure.cause, kind_of(failure.error).status) == MEANINGS[status]
    assert "it is wrong" not in failure.error.message
    assert KEY not in failure.error.message


@pytest.mark.parametrize(
    "body", [HTML, b"", b"\xff\xfe\x00", b"{", b"[]", b"null", b"7", b'"', b'{"error":null}', b'{"error":{}}']
)
def test_a_client_error_without_words_gets_ours(body: bytes) -> None:
    refusal = meaning(400, body)
    assert isinstance(refusal, Refusal)
    message = json.loads(refusal.body)["error"]["message"]
    assert message
    assert "nginx" not in message
    assert "10.0.0.1" not in message


def test_a_client_error_as_plain_text_is_read_so() -> None:
    refusal = meaning(400, b"temperature must be below 2")
    assert isinstance(refusal, Refusal)
    assert refusal.error.message == "temperature must be below 2"


@pytest.mark.parametrize("shape", TOO_LONG)
def test_a_request_that_is_too_long_is_known_by_its_words(shape: Any) -> None:
    failure = meaning(400, encoded(shape))
    assert isinstance(failure, Failure)
    assert failure.cause == "context"
    body = error_body(failure.error)["error"]
    assert (kind_of(failure.error).status, body["code"]) == (400, "context_length_exceeded")
    assert body["message"] == read_error(encoded(shape), ()).message


@pytest.mark.parametrize("words", ["max_tokens must be at least 1", "Unknown parameter: context", "the image is too large"])
def test_other_refusals_are_not_taken_for_it(words: str) -> None:
    assert isinstance(meaning(400, encoded({"error": {"message": words}})), Refusal)


def test_what_was_not_found_without_a_model_is_the_clients_affair() -> None:
    refusal = meaning(404, encoded({"error": {"message": "No such video"}}), names_model=False)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, json.loads(refusal.body)["error"]["code"]) == (404, "not_found")


def test_an_account_without_credit_is_no_rate_limit() -> None:
    failure = meaning(429, encoded({"error": {"message": "m", "code": "insufficient_quota"}}))
    assert isinstance(failure, Failure)
    assert failure.cause == "refused"


@pytest.mark.parametrize(
    "error",
    [
        {"message": "API key not valid. Please pass a valid API key.", "code": 400, "status": "INVALID_ARGUMENT"},
        {"message": "Incorrect API key provided: abc"},
        {"message": "m", "code": "model_not_found"},
    ],
)
def test_a_400_about_our_key_or_the_model_is_not_the_clients_fault(error: dict[str, Any]) -> None:
    failure = meaning(400, encoded({"error": error}))
    assert isinstance(failure, Failure)
    assert failure.cause == "refused"


@pytest.mark.parametrize(
    "said", [{"code": "rate_limit_exceeded"}, {"type": "rate_limit_error"}, {"status": 429}, {"code": "429"}]
)
def test_an_error_without_a_status_has_one_by_its_code_or_type(said: dict[str, Any]) -> None:
    assert read_error(encoded({"error": {"message": "m", **said}}), ()).status == 429


def test_the_time_to_wait_goes_on_to_whoever_tries_again() -> None:
    for status in (429, 503, 500):
        failure = meaning(status, b"", wait=7.5)
        assert isinstance(failure, Failure)
        assert (failure.retry_after, failure.error.retry_after) == (7.5, 7.5)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "1e30"}, 86_400.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Sun, 99 Nov 1994 08:49:37 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_the_time_to_wait_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_of(headers) == seconds


def test_a_date_to_wait_for_is_seconds_from_now() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    wait = retry_after_of({"retry-after": soon})
    assert wait is not None
    assert 50 < wait <= 61


def test_a_deep_body_is_no_way_to_crash() -> None:
    assert read_error(b'{"error":' + b"[" * 100_000, ()) == Said()
    assert read_error(b"[" * 60_000, ()) == Said()


def test_an_error_in_another_encoding_is_still_an_error() -> None:
    assert read_error('{"error": {"message": "Schlüssel ungültig"}}'.encode("latin-1"), ()) == Said()
    assert read_error("Schlüssel ungültig".encode("latin-1"), ()).message == "Schl\ufffdssel ung\ufffdltig"
