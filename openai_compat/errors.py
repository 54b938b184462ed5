"""Every error a client can see, as types; one table maps them to the wire.

    APIError                       500 server_error
    ├── InvalidRequest             400 invalid_request_error
    │   ├── ContextLengthExceeded      … code context_length_exceeded
    │   ├── UnsupportedParameter       … code unsupported_parameter
    │   ├── UnsupportedCapability      … code unsupported_capability
    │   └── UnsupportedMode            … code unsupported_mode, param mode
    ├── AuthenticationFailed       401 authentication_error, code invalid_api_key
    ├── PermissionRefused          403 permission_error
    ├── NotFound                   404 invalid_request_error
    │   └── ModelNotFound              … code model_not_found, param model
    ├── MethodNotAllowed           405 invalid_request_error
    ├── RequestTimeout             408 invalid_request_error, code request_timeout
    ├── Conflict                   409 invalid_request_error
    ├── RequestTooLarge            413 invalid_request_error, code request_too_large
    ├── UnsupportedMediaType       415 invalid_request_error
    ├── NoWebSockets               426 invalid_request_error
    ├── HeadersTooLarge            431 invalid_request_error
    ├── RateLimited                429 rate_limit_error
    ├── Cancelled                  499 server_error, code cancelled (the client has gone; seen in the log only)
    ├── UpstreamError              502 server_error, code upstream_error (it failed, or answered nonsense)
    ├── Unavailable                503 server_error, code unavailable
    │   ├── ModelLoading               … code model_loading
    │   ├── ModelUnavailable           … code model_unavailable (files missing, refused or failing to load)
    │   ├── InsufficientMemory         … code insufficient_memory
    │   ├── WorkerDied                 … code worker_died
    │   └── ShuttingDown               … code shutting_down
    └── DeadlineExceeded           504 server_error, code deadline_exceeded
        └── UpstreamTimeout            … code upstream_timeout

Messages never carry a library's repr, a path or an address. This module imports nothing of the project.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple


class APIError(Exception):
    """An error with an OpenAI body.

    Args:
        message: what a client reads; it names the field and what would be right.
        param: the request field at fault, in OpenAI's spelling (``messages[0].role``).
        code: overrides the code of the type.
        retry_after: seconds after which the same request may succeed; sent as ``Retry-After``.
        retry: whether a client's automatic retry is any use; sent as ``x-should-retry``. None leaves it to the client.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.retry = retry


class InvalidRequest(APIError): ...


class ContextLengthExceeded(InvalidRequest):
    """The prompt and the tokens asked for do not fit the model's context; all counts are tokens."""

    def __init__(self, *, prompt_tokens: int, max_tokens: int, context_length: int, param: str = "messages") -> None:
        super().__init__(
            f"This model's maximum context length is {context_length} tokens. However, you requested "
            f"{prompt_tokens + max_tokens} tokens ({prompt_tokens} in the prompt, {max_tokens} in the completion). "
            "Please reduce the length of the prompt or of the completion.",
            param=param,
        )


class UnsupportedParameter(InvalidRequest): ...


class UnsupportedCapability(InvalidRequest): ...


class UnsupportedMode(InvalidRequest):
    def __init__(self, mode: str, supported: tuple[str, ...]) -> None:
        known = ", ".join(supported) or "none"
        super().__init__(f"This model has no mode '{mode}'. Its modes: {known}.", param="mode")


class AuthenticationFailed(APIError): ...


class PermissionRefused(APIError): ...


class NotFound(APIError): ...


class ModelNotFound(NotFound):
    def __init__(self, name: str, near: tuple[str, ...] = ()) -> None:
        hint = f" Did you mean: {', '.join(near)}?" if near else ""
        super().__init__(f"The model '{name}' does not exist.{hint}", param="model")


class MethodNotAllowed(APIError): ...


class RequestTimeout(APIError): ...


class Conflict(APIError): ...


class RequestTooLarge(APIError): ...


class UnsupportedMediaType(APIError): ...


class HeadersTooLarge(APIError): ...


class NoWebSockets(APIError): ...


class RateLimited(APIError):
    """``limits`` are headers that tell what is left of a key's limits."""

    limits: tuple[tuple[bytes, bytes], ...] = ()


class Cancelled(APIError):
    def __init__(self, message: str = "The request was cancelled.") -> None:
        super().__init__(message)


class UpstreamError(APIError): ...


class Unavailable(APIError): ...


class ModelLoading(Unavailable): ...


class ModelUnavailable(Unavailable): ...


class InsufficientMemory(Unavailable): ...


class WorkerDied(Unavailable): ...


class ShuttingDown(Unavailable): ...


class DeadlineExceeded(APIError): ...


class UpstreamTimeout(DeadlineExceeded): ...


class Kind(NamedTuple):
    """How a type of error looks on the wire."""

    status: int
    type: str
    code: str | None = None


_INVALID = "invalid_request_error"
_SERVER = "server_error"

KINDS: dict[type[BaseException], Kind] = {
    APIError: Kind(500, _SERVER),
    InvalidRequest: Kind(400, _INVALID),
    ContextLengthExceeded: Kind(400, _INVALID, "context_length_exceeded"),
    UnsupportedParameter: Kind(400, _INVALID, "unsupported_parameter"),
    UnsupportedCapability: Kind(400, _INVALID, "unsupported_capability"),
    UnsupportedMode: Kind(400, _INVALID, "unsupported_mode"),
    AuthenticationFailed: Kind(401, "authentication_error", "invalid_api_key"),
    PermissionRefused: Kind(403, "permission_error", "permission_denied"),
    NotFound: Kind(404, _INVALID, "not_found"),
    ModelNotFound: Kind(404, _INVALID, "model_not_found"),
    MethodNotAllowed: Kind(405, _INVALID, "method_not_allowed"),
    RequestTimeout: Kind(408, _INVALID, "request_timeout"),
    Conflict: Kind(409, _INVALID, "conflict"),
    RequestTooLarge: Kind(413, _INVALID, "request_too_large"),
    UnsupportedMediaType: Kind(415, _INVALID, "unsupported_media_type"),
    HeadersTooLarge: Kind(431, _INVALID, "headers_too_large"),
    NoWebSockets: Kind(426, _INVALID, "websockets_not_supported"),
    RateLimited: Kind(429, "rate_limit_error", "rate_limit_exceeded"),
    Cancelled: Kind(499, _SERVER, "cancelled"),
    UpstreamError: Kind(502, _SERVER, "upstream_error"),
    Unavailable: Kind(503, _SERVER, "unavailable"),
    ModelLoading: Kind(503, _SERVER, "model_loading"),
    ModelUnavailable: Kind(503, _SERVER, "model_unavailable"),
    InsufficientMemory: Kind(503, _SERVER, "insufficient_memory"),
    WorkerDied: Kind(503, _SERVER, "worker_died"),
    ShuttingDown: Kind(503, _SERVER, "shutting_down"),
    DeadlineExceeded: Kind(504, _SERVER, "deadline_exceeded"),
    UpstreamTimeout: Kind(504, _SERVER, "upstream_timeout"),
}
_INTERNAL = Kind(500, _SERVER, "internal_error")
LONGEST_WAIT = 120
"""Seconds. Told to wait longer, openai-python does not try again at all, and openai-node really sleeps so long."""
_HIDDEN = "The server had an error while processing your request."


def kind_of(error: BaseException) -> Kind:
    """Find the nearest type of ``error`` in the table, by MRO; an unknown type is an internal error."""
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), _INTERNAL)


def error_body(error: BaseException) -> dict[str, Any]:
    """The JSON object OpenAI clients read. A foreign exception tells nothing of itself."""
    kind = kind_of(error)
    if not isinstance(error, APIError):
        return {"error": {"message": _HIDDEN, "type": kind.type, "param": None, "code": kind.code}}
    return {
        "error": {
            "message": error.message,
            "type": kind.type,
            "param": error.param,
            "code": error.code or kind.code,
        }
    }


def error_headers(error: BaseException) -> dict[str, str]:
    """Headers that go with the body: when to try again, and whether to."""
    headers: dict[str, str] = {}
    if isinstance(error, APIError):
        if error.retry_after is not None:
            headers["retry-after"] = str(min(max(1, math.ceil(error.retry_after)), LONGEST_WAIT))
        if error.retry is not None:
            headers["x-should-retry"] = "true" if error.retry else "false"
    if isinstance(error, RateLimited):
        headers.update((name.decode(), value.decode()) for name, value in error.limits)
    return headers


def error_event(error: BaseException) -> bytes:
    """The SSE event of a failure after the stream began; the SDKs raise on ``data: {"error": …}`` and on nothing else."""
    return b"data: " + json.dumps(error_body(error), ensure_ascii=False).encode() + b"\n\n"
