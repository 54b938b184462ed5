"""Every failure of a web app carries OpenAI's error body, and says nothing of the server's inside."""

from __future__ import annotations

import pytest
from litestar import Litestar, Request, get, post
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.middleware import ASGIMiddleware
from litestar.params import FromPath, FromQuery
from litestar.testing import TestClient

from openai_compat import errors
from openai_compat.http.errors import exception_handlers, from_framework

SECRET = "/srv/models/secret.safetensors"


@get("/items")
async def items(count: FromQuery[int]) -> dict:
    return {"count": count}


@post("/json")
async def take_json(request: Request) -> dict:
    return {"got": await request.json()}


@get("/typed")
async def typed() -> None:
    raise errors.ModelLoading("The model is loading.", retry_after=2.2, retry=True)


@get("/derived")
async def derived() -> None:
    class Special(errors.RateLimited): ...

    raise Special("Slow down.", code="special")


@get("/unforeseen")
async def unforeseen() -> None:
    raise ValueError(SECRET)


@get("/framework/{status:int}")
async def framework(status: FromPath[int]) -> None:
    raise HTTPException(detail=SECRET, status_code=status)


class Refusing(ASGIMiddleware):
    async def handle(self, scope, receive, send, next_app) -> None:
        raise errors.AuthenticationFailed("No.")


@get("/guarded", middleware=[Refusing()])
async def guarded() -> None: ...


@get("/unauthorized")
async def unauthorized() -> None:
    raise NotAuthorizedException(SECRET)


@pytest.fixture(scope="module")
def client():
    app = Litestar(
        [items, take_json, typed, derived, unforeseen, framework, guarded, unauthorized],
        exception_handlers=exception_handlers,
        logging_config=None,
        openapi_config=None,
        request_max_body_size=100,
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def error_of(response) -> dict:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["content-type"] == "application/json"
    assert SECRET not in response.text
    assert "Traceback" not in response.text
    return body["error"]


def test_an_unknown_url_is_named_with_its_method(client) -> None:
    response = client.post("/v1/chat/completionz")
    assert response.status_code == 404
    assert error_of(response) == {
        "message": "Invalid URL (POST /v1/chat/completionz)",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }


def test_a_very_long_url_is_not_repeated_whole(client) -> None:
    assert len(error_of(client.get("/" + "x" * 5000))["message"]) < 300


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT", "POST", "HEAD"])
def test_a_wrong_method_is_405_and_says_what_is_allowed(client, method) -> None:
    response = client.request(method, "/items")
    assert response.status_code == 405
    assert "GET" in response.headers["allow"]
    if method != "HEAD":
        assert error_of(response)["code"] == "method_not_allowed"


def test_whoever_wants_a_websocket_where_there_is_http_is_told_so(client) -> None:
    response = client.delete("/typed", headers={"sec-websocket-key": "x", "sec-websocket-version": "13"})
    assert (response.status_code, error_of(response)["code"]) == (426, "websockets_not_supported")
    assert response.headers["upgrade"] == "HTTP/1.1"
    assert client.get("/nowhere", headers={"sec-websocket-key": "x"}).status_code == 404


def test_a_bad_query_parameter_is_named(client) -> None:
    response = client.get("/items?count=many")
    assert response.status_code == 400
    assert error_of(response)["param"] == "count"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b""])
def test_malformed_json_is_a_400(client, body) -> None:
    response = client.post("/json", content=body, headers={"content-type": "application/json"})
    if body:
        assert response.status_code == 400
        assert error_of(response)["type"] == "invalid_request_error"
    else:
        assert response.status_code == 201


def test_a_large_body_is_413(client) -> None:
    response = client.post("/json", content=b'"' + b"x" * 200 + b'"')
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


def test_a_typed_error_brings_its_status_code_and_retry_headers(client) -> None:
    response = client.get("/typed")
    assert response.status_code == 503
    assert error_of(response)["code"] == "model_loading"
    assert response.headers["retry-after"] == "3"
    assert response.headers["x-should-retry"] == "true"


def test_a_subclass_is_mapped_by_its_nearest_known_ancestor(client) -> None:
    response = client.get("/derived")
    assert response.status_code == 429
    assert error_of(response) == {"message": "Slow down.", "type": "rate_limit_error", "param": None, "code": "special"}


def test_an_unforeseen_exception_tells_the_client_nothing_and_the_log_everything(client, caplog) -> None:
    response = client.get("/unforeseen")
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert SECRET in caplog.text


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "permission_denied"),
        (408, "request_timeout"),
        (409, "conflict"),
        (415, "unsupported_media_type"),
        (418, None),
        (429, "rate_limit_exceeded"),
        (500, "internal_error"),
        (503, "unavailable"),
    ],
)
def test_the_frameworks_own_exceptions_are_translated_without_their_detail(client, status, code) -> None:
    response = client.get(f"/framework/{status}")
    assert response.status_code == (400 if status == 418 else status)
    assert error_of(response)["code"] == code


def test_an_error_in_a_middleware_has_the_same_shape(client) -> None:
    response = client.get("/guarded")
    assert response.status_code == 401
    assert error_of(response)["code"] == "invalid_api_key"


def test_the_frameworks_401_has_the_same_shape(client) -> None:
    assert error_of(client.get("/unauthorized"))["type"] == "authentication_error"


def test_options_is_answered_for_a_known_url(client) -> None:
    assert client.options("/items").status_code == 204
    assert client.options("/nowhere").status_code == 404


def test_every_status_below_500_becomes_an_error_with_a_body() -> None:
    for status in range(400, 500):
        assert errors.error_body(from_framework(HTTPException(status_code=status, detail="x"), "GET", "/"))["error"]["message"]


@pytest.mark.parametrize(("wait", "told"), [(0.0, "1"), (1.2, "2"), (120.0, "120"), (3600.0, "120")])
def test_nobody_is_told_to_wait_longer_than_the_sdks_bear(wait, told) -> None:
    assert errors.error_headers(errors.Unavailable("x", retry_after=wait)) == {"retry-after": told}


def test_statuses_types_and_codes_are_those_that_the_sdks_know() -> None:
    invalid = "invalid_request_error"
    wire = {
        errors.InvalidRequest("x"): (400, invalid, None),
        errors.AuthenticationFailed("x"): (401, "authentication_error", "invalid_api_key"),
        errors.PermissionRefused("x"): (403, "permission_error", "permission_denied"),
        errors.ModelNotFound("m"): (404, invalid, "model_not_found"),
        errors.Conflict("x"): (409, invalid, "conflict"),
        errors.RequestTooLarge("x"): (413, invalid, "request_too_large"),
        errors.RateLimited("x"): (429, "rate_limit_error", "rate_limit_exceeded"),
        errors.APIError("x"): (500, "server_error", None),
        errors.ModelLoading("x"): (503, "server_error", "model_loading"),
    }
    for error, expected in wire.items():
        body = errors.error_body(error)["error"]
        assert (errors.kind_of(error).status, body["type"], body["code"]) == expected
    assert 422 not in {kind.status for kind in errors.KINDS.values()}
    assert all(kind.code is None or isinstance(kind.code, str) for kind in errors.KINDS.values())
