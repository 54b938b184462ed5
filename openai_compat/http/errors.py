"""OpenAI's error body for every failure that reaches a web app: our own types, the framework's, and anything unforeseen."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException
from litestar.types import ExceptionHandlersMap, Send

from openai_compat import errors

_PATH_SHOWN = 200
_HANDSHAKE = "sec-websocket-key"
"""Whoever sends it wants a WebSocket. By the 426 Codex goes over to HTTP at once, by a 405 after its retries."""
_BY_STATUS: dict[int, type[errors.APIError]] = {
    401: errors.AuthenticationFailed,
    403: errors.PermissionRefused,
    408: errors.RequestTimeout,
    409: errors.Conflict,
    413: errors.RequestTooLarge,
    415: errors.UnsupportedMediaType,
    429: errors.RateLimited,
    431: errors.HeadersTooLarge,
    503: errors.Unavailable,
}
_logger = logging.getLogger("openai_compat.http")


def encode_error(error: BaseException) -> bytes:
    return json.dumps(errors.error_body(error), ensure_ascii=False).encode("utf-8", "replace")


def error_response(error: BaseException, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """The litestar response for any exception; ``headers`` come in addition to the error's own."""
    return Response(
        encode_error(error),
        status_code=errors.kind_of(error).status,
        media_type="application/json",
        headers={**(headers or {}), **errors.error_headers(error)},
    )


async def send_error(send: Send, error: BaseException, headers: Mapping[str, str] | None = None) -> None:
    """The same answer for code that speaks ASGI itself. Nothing may have been sent before."""
    body = encode_error(error)
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(headers or {}),
        **errors.error_headers(error),
    }
    await send(
        {
            "type": "http.response.start",
            "status": errors.kind_of(error).status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def from_framework(error: HTTPException, method: str, path: str) -> errors.APIError:
    """Translate one of litestar's own exceptions. Its texts may quote library internals, so ours are used instead."""
    shown = path if len(path) <= _PATH_SHOWN else path[:_PATH_SHOWN] + "…"
    if error.status_code == HTTPStatus.NOT_FOUND:
        return errors.NotFound(f"Invalid URL ({method} {shown})")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("allow", "")
        return errors.MethodNotAllowed(f"Not allowed to {method} on {shown}. Allowed: {allowed}.")
    if cls := _BY_STATUS.get(error.status_code):
        return cls(f"{HTTPStatus(error.status_code).phrase}.")
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _invalid(error)
    return errors.APIError("The server had an error while processing your request.", code="internal_error")


def _invalid(error: HTTPException) -> errors.InvalidRequest:
    """Name the parameter that litestar found fault with, where it says which."""
    for fault in error.extra if isinstance(error.extra, list) else ():
        if isinstance(fault, dict) and isinstance(fault.get("key"), str):
            return errors.InvalidRequest(f"Invalid value for '{fault['key']}'.", param=fault["key"])
    return errors.InvalidRequest("The request could not be understood.")


def _answer_framework_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    translated = from_framework(error, request.method, request.scope["path"])
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log_unforeseen(request, error)
    allowed = (error.headers or {}).get("allow")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and _HANDSHAKE in request.headers:
        return error_response(errors.NoWebSockets("This is served by HTTP alone."), {"upgrade": "HTTP/1.1"})
    return error_response(translated, {"allow": allowed} if allowed else None)


def _answer_serialization_error(request: Request[Any, Any, Any], error: SerializationException) -> Response[bytes]:
    """Litestar has one type for a body it cannot read, the client's fault, and for an answer it cannot write, ours."""
    if isinstance(error.__cause__, msgspec.DecodeError):
        return error_response(errors.InvalidRequest("The request body is not valid JSON."))
    return _answer_error(request, error)


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if not isinstance(error, errors.APIError):
        _log_unforeseen(request, error)
    return error_response(error)


def _log_unforeseen(request: Request[Any, Any, Any], error: Exception) -> None:
    request_id = request.scope["state"].get("request_id", "-")
    _logger.error("%s %r failed [%s]", request.method, request.scope["path"], request_id, exc_info=error)


exception_handlers: ExceptionHandlersMap = {
    HTTPException: _answer_framework_error,
    SerializationException: _answer_serialization_error,
    Exception: _answer_error,
}
"""For ``Litestar(exception_handlers=…)``."""
