"""Refusals as bodies → the errors that they were."""

from __future__ import annotations

import msgspec

from openai_compat.errors import (
    APIError,
    AuthenticationFailed,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PermissionRefused,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    Unavailable,
    UnsupportedMediaType,
    UpstreamError,
)
from openai_compat.gateway.replica import Headers
from schemas.common import ErrorDetail, ErrorResponse

_OF_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationFailed,
    403: PermissionRefused,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    409: Conflict,
    413: RequestTooLarge,
    415: UnsupportedMediaType,
    429: RateLimited,
    500: APIError,
    502: UpstreamError,
    503: Unavailable,
    504: DeadlineExceeded,
}
_SERVERS = 500  # statuses from here on are the server's fault
_UNREADABLE = "The model's answer could not be read."


def refusal_of(status: int, headers: Headers, body: bytes) -> APIError:
    """What a refused request's answer says, as an error with the same status, where there is one."""
    fields = {name.lower(): value for name, value in headers}
    retry = {b"true": True, b"false": False}.get(fields.get(b"x-should-retry", b""))
    after = fields.get(b"retry-after", b"")
    error = error_of(status, _detail(body))
    error.retry, error.retry_after = retry, float(after) if after.isdigit() else None
    return error


def error_of(status: int, detail: ErrorDetail) -> APIError:
    """For a status that has no type of its own the nearest: 400 or 500."""
    kind = _OF_STATUS.get(status) or (APIError if status >= _SERVERS else InvalidRequest)
    return kind(detail.message, param=detail.param, code=detail.code)


def _detail(body: bytes) -> ErrorDetail:
    try:
        return msgspec.json.decode(body, type=ErrorResponse).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorDetail(message=_UNREADABLE, type="server_error")
