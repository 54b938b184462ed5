"""A refusal's body becomes the error that it was, with the same status wherever there is a type for it."""

from __future__ import annotations

import json

import pytest

from openai_compat import errors
from openai_compat.errors import APIError, error_body, error_headers, kind_of
from openai_compat.gateway.refusals import refusal_of

KINDS = [
    errors.InvalidRequest,
    errors.AuthenticationFailed,
    errors.PermissionRefused,
    errors.NotFound,
    errors.MethodNotAllowed,
    errors.RequestTimeout,
    errors.Conflict,
    errors.RequestTooLarge,
    errors.UnsupportedMediaType,
    errors.RateLimited,
    errors.APIError,
    errors.UpstreamError,
    errors.Unavailable,
    errors.DeadlineExceeded,
]


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_it_is_the_same(kind: type[APIError]) -> None:
    before = kind("no", param="a", code="b", retry_after=3, retry=False)
    headers = [(name.title().encode(), value.encode()) for name, value in error_headers(before).items()]
    after = refusal_of(kind_of(before).status, headers, json.dumps(error_body(before)).encode())
    assert type(after) is kind
    assert (error_body(after), error_headers(after)) == (error_body(before), error_headers(before))


@pytest.mark.parametrize(("status", "nearest"), [(402, 400), (418, 400), (422, 400), (499, 400), (501, 500), (529, 500)])
def test_an_unknown_status_is_the_nearest_known_one(status: int, nearest: int) -> None:
    assert kind_of(refusal_of(status, [], b'{"error":{"message":"no","type":"t"}}')).status == nearest


DEEP = b'{"error":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[]", b'{"error":"no"}', b'{"error":{}}', DEEP], ids=range(7))
def test_a_body_that_is_none_of_ours_is_a_refusal_in_our_words(body: bytes) -> None:
    assert refusal_of(503, [], body).message == "The model's answer could not be read."
