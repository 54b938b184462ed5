"""Whatever goes wrong under `/v1/messages` has Anthropic's shape; nothing else is touched."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from openai_compat import errors
from openai_compat.http.anthropic import AnthropicShape, is_message
from openai_compat.http.errors import send_error
from openai_compat.http.sse import PING

ID = (b"x-request-id", b"req_1")


def through(app: Any, path: str = "/v1/messages", method: str = "POST") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise NotImplementedError

    scope: Any = {"type": "http", "path": path, "method": method, "headers": []}
    asyncio.run(AnthropicShape(app)(scope, receive, send))  # type: ignore[arg-type]
    return sent


def failing(error: BaseException) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], ID]
            await send(message)

        await send_error(with_id, error)

    return app


def answering(status: int, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, piece in enumerate(pieces, 1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    return app


EVENTS = [(b"Content-Type", b"text/event-stream; charset=utf-8"), ID]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidRequest("No."), 400, "invalid_request_error"),
        (errors.AuthenticationFailed("No."), 401, "authentication_error"),
        (errors.PermissionRefused("No."), 403, "permission_error"),
        (errors.ModelNotFound("m"), 404, "not_found_error"),
        (errors.MethodNotAllowed("No."), 405, "invalid_request_error"),
        (errors.RequestTooLarge("No."), 413, "request_too_large"),
        (errors.UnsupportedMediaType("No."), 415, "invalid_request_error"),
        (errors.RateLimited("No.", retry_after=7), 429, "rate_limit_error"),
        (ValueError("secret"), 500, "api_error"),
        (errors.UpstreamError("No."), 502, "api_error"),
        (errors.ModelLoading("No.", retry_after=2), 529, "overloaded_error"),
        (errors.ShuttingDown("No."), 529, "overloaded_error"),
        (errors.InsufficientMemory("No.", retry=False), 503, "api_error"),
        (errors.DeadlineExceeded("No."), 504, "timeout_error"),
    ],
)
def test_each_error_has_its_type(error: BaseException, status: int, kind: str) -> None:
    start, body = through(failing(error))
    headers = dict(start["headers"])
    said = json.loads(body["body"])
    assert (start["status"], said["type"], said["error"]["type"]) == (status, "error", kind)
    assert set(said) == {"type", "error", "request_id"}
    assert said["request_id"] == "req_1"
    assert headers[b"request-id"] == headers[b"x-request-id"] == b"req_1"
    assert int(headers[b"content-length"]) == len(body["body"])
    assert "secret" not in body["body"].decode()


def test_when_to_try_again_is_kept() -> None:
    start, _ = through(failing(errors.RateLimited("No.", retry_after=7, retry=True)))
    headers = dict(start["headers"])
    assert (headers[b"retry-after"], headers[b"x-should-retry"]) == (b"7", b"true")


def test_the_field_at_fault_is_named_in_the_message() -> None:
    _, body = through(failing(errors.InvalidRequest("Not so.", param="messages[0].content")))
    assert json.loads(body["body"])["error"]["message"] == "messages[0].content: Not so."
    _, body = through(failing(errors.InvalidRequest("'top_k' is wrong.", param="top_k")))
    assert json.loads(body["body"])["error"]["message"] == "'top_k' is wrong."


@pytest.mark.parametrize("pieces", [(b"",), (b"{", b"}"), (b"no json",), (b"\xff",), (b'{"error":{"message":1}}',)])
def test_a_body_that_is_no_error_tells_nothing(pieces: tuple[bytes, ...]) -> None:
    start, body = through(answering(502, [ID], *pieces))
    said = json.loads(body["body"])
    assert (start["status"], said["error"]["type"]) == (502, "api_error")
    assert "error while processing" in said["error"]["message"]


def test_a_body_in_pieces_is_read_as_one() -> None:
    text = json.dumps(errors.error_body(errors.NotFound("Nowhere."))).encode()
    start, body = through(answering(404, [ID, (b"content-length", b"9")], *[text[i : i + 5] for i in range(0, len(text), 5)]))
    assert json.loads(body["body"])["error"] == {"type": "not_found_error", "message": "Nowhere."}
    assert [value for name, value in start["headers"] if name == b"content-length"] == [str(len(body["body"])).encode()]


def test_an_answer_passes_and_has_both_names_of_its_id() -> None:
    start, body = through(answering(200, [ID, (b"content-length", b"2")], b"{}"))
    assert body["body"] == b"{}"
    assert dict(start["headers"])[b"request-id"] == b"req_1"


def test_events_pass_pings_get_their_name_and_an_error_its_shape() -> None:
    event = b"event: message_start\ndata: {}\n\n"
    failed = errors.error_event(errors.WorkerDied("It died."))
    _, first, ping, last, end = through(answering(200, EVENTS, event, PING, failed, b""))
    assert first["body"] == event
    assert ping["body"] == b'event: ping\ndata: {"type":"ping"}\n\n'
    name, data, *rest = last["body"].split(b"\n")
    assert (name, rest, end["body"]) == (b"event: error", [b"", b""], b"")
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "It died."},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.APIError("No."), "api_error"),
        (ValueError("secret"), "api_error"),
        (errors.InvalidRequest("No."), "invalid_request_error"),
        (errors.RateLimited("No."), "rate_limit_error"),
        (errors.ModelLoading("No."), "overloaded_error"),
        (errors.InsufficientMemory("No."), "api_error"),
        (errors.DeadlineExceeded("No."), "api_error"),
    ],
)
def test_in_mid_stream_an_error_s_own_words_tell_its_type(error: BaseException, kind: str) -> None:
    _, last = through(answering(200, EVENTS, errors.error_event(error)))
    said = json.loads(last["body"].split(b"data: ")[1])
    assert said["error"]["type"] == kind
    assert "secret" not in said["error"]["message"]


def test_an_error_that_cuts_an_event_begins_on_a_line_of_its_own() -> None:
    _, last = through(answering(200, EVENTS, b"\n\n" + errors.error_event(errors.RateLimited("Later."))))
    assert last["body"].startswith(b"\n\nevent: error\n")
    assert b'"rate_limit_error"' in last["body"]


def test_an_answer_to_head_keeps_having_no_body() -> None:
    length = (b"content-length", b"90")
    start, body = through(answering(401, [ID, length], b""), method="HEAD")
    assert (start["headers"], body["body"]) == ([ID, length], b"")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messagesque", "/v1/models", "/", "/v2/messages"])
def test_other_paths_are_left_alone(path: str) -> None:
    error = errors.ModelNotFound("m")
    start, body = through(failing(error), path)
    assert json.loads(body["body"]) == errors.error_body(error)
    assert b"request-id" not in dict(start["headers"])


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages/", "/v1/messages/count_tokens", "//v1///messages", "/v1/messages/x/y"]
)
def test_all_paths_below_are_meant(path: str) -> None:
    assert is_message(path)


def test_another_path_is_called_as_it_is() -> None:
    """Nothing is wrapped where nothing is to be changed."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(send)

    async def send(message: Any) -> None: ...

    scope: Any = {"type": "http", "path": "/v1/chat/completions", "method": "POST", "headers": []}
    asyncio.run(AnthropicShape(app)(scope, send, send))  # type: ignore[arg-type, typeddict-item]
    assert seen == [send]


def test_the_list_of_models_is_meant_where_one_of_anthropic_s_clients_asks() -> None:
    async def ask(*headers: tuple[bytes, bytes]) -> Any:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope: Any = {"type": "http", "path": "/v1/models/m", "method": "GET", "headers": list(headers)}
        await AnthropicShape(failing(errors.ModelNotFound("m")))(scope, send, send)  # type: ignore[arg-type]
        return json.loads(sent[1]["body"])

    assert asyncio.run(ask((b"anthropic-version", b"2023-06-01")))["error"]["type"] == "not_found_error"
    assert asyncio.run(ask())["error"]["code"] == "model_not_found"
