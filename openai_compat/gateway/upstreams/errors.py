"""What an upstream's refusal means: for the client, and for whoever may ask another target."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from openai_compat.errors import (
    APIError,
    Conflict,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    UnsupportedMediaType,
    UpstreamError,
    UpstreamTimeout,
    kind_of,
)
from openai_compat.gateway.order import Cause, Failure
from openai_compat.gateway.upstreams.scrub import scrub_message

TOO_LONG = "context_length_exceeded"
ENDED_EARLY = "The model's upstream ended its answer early."
BROKEN_OFF = "The model's upstream broke off its answer."
MIXED_UP = "The model's upstream answered with what was not asked for."
_LIMITED = "The rate limit of the model's upstream is reached."
NOTHING = "The model's upstream answered with nothing."
_OVERFLOW = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|sequence|model) length|exceed_context_size"
    r"|(?:prompt|input|request|messages?)\b.{0,40}\b(?:is|are|was) too (?:long|large)\b.{0,60}\btoken|prompt is too long"
    r"|input (?:is )?too long|too many (?:input |prompt )?tokens|token count.{0,40}exceeds"
    r"|exceeds? the (?:maximum|max).{0,30}tokens?\b"
    r"|longer than the (?:model|maximum)|reduce the length of the (?:messages|prompt|input)",
    re.IGNORECASE | re.DOTALL,
)
_OVERFLOW_STATUS = frozenset({400, 413, 422})
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"})
_OVERLOADED = frozenset({503, 529})
_TOO_SLOW = frozenset({408, 504, 522, 524})
_REFUSING = frozenset({401, 402, 403, 407, 421, 451})
_NO_SUCH_WAY = frozenset({405, 501})
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "timeout_error": 504,
}
_CLIENT_ERRORS: dict[int, type[APIError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    413: RequestTooLarge,
    415: UnsupportedMediaType,
}
_LONGEST_CODE = 100
_LONGEST_WAIT = 86_400.0


class Said(Struct, frozen=True, kw_only=True):
    """An error in an upstream's words, whatever shape they came in. ``status`` is what the body itself says, 0 if nothing."""

    message: str = ""
    type: str = ""
    param: str | None = None
    code: str | None = None
    status: int = 0


class Refusal(Exception):
    """A client error of the upstream, which the client is to read: ``status``, and ``body`` in OpenAI's shape."""

    def __init__(self, status: int, said: Said) -> None:
        kind = _CLIENT_ERRORS.get(status, InvalidRequest)
        self.status = status
        self.error = kind(
            said.message or f"The model's upstream refused the request ({status}).", param=said.param, code=said.code
        )
        self.type = said.type or kind_of(self.error).type
        super().__init__(self.error.message)

    @property
    def body(self) -> bytes:
        error, code = self.error, self.error.code or kind_of(self.error).code
        return msgspec.json.encode({"error": {"message": error.message, "type": self.type, "param": error.param, "code": code}})


def read_error(body: bytes, secrets: tuple[str, ...]) -> Said:
    """What ``body`` says, as OpenAI, vLLM, SGLang, FastAPI, Ollama, Gemini and others say it, or as a plain text."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        text = body.decode(errors="replace").strip()
        return Said() if text.startswith(("<", "{", "[")) else Said(message=scrub_message(text, secrets))
    return read_said(said, secrets)


def read_said(said: Any, secrets: tuple[str, ...]) -> Said:
    """The same for what is decoded already: a whole body, or only its ``error``."""
    if isinstance(said, list):
        said = said[0] if said else ""
    if not isinstance(said, dict):
        return Said(message=scrub_message(said, secrets) if isinstance(said, str) else "")
    inner = said.get("error")
    fields: dict[str, Any] = {**said, **inner} if isinstance(inner, dict) else said
    message, param = _message(fields)
    status = next((s for s in (_status(fields.get(name)) for name in ("code", "status", "status_code")) if s), 0)
    kind = _word(fields.get("type"), secrets) or ""
    return Said(
        message=scrub_message(message, secrets),
        type=kind,
        param=_word(fields.get("param"), secrets) or param,
        code=_word(fields.get("code"), secrets),
        status=status or _STATUS_OF_TYPE.get(kind, 0),
    )


def _message(fields: dict[str, Any]) -> tuple[str, str | None]:
    """The words, and the field that FastAPI says is at fault."""
    for name in ("message", "detail", "error", "errors", "msg", "error_msg", "title"):
        found = fields.get(name)
        if isinstance(found, str) and found.strip():
            return found, None
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return found["message"], None
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return _validation(found)
    return "", None


def _validation(problems: list[Any]) -> tuple[str, str | None]:
    first = problems[0]
    place = first.get("loc")
    param = ".".join(str(part) for part in place if part != "body")[:_LONGEST_CODE] if isinstance(place, list) else ""
    message = first.get("msg") or first.get("message") or ""
    return f"{param}: {message}" if param else str(message), param or None


def _word(value: Any, secrets: tuple[str, ...]) -> str | None:
    """A type, a code, a param: one short word, or nothing."""
    if not isinstance(value, str) or not value or len(value) > _LONGEST_CODE:
        return None
    return scrub_message(value, secrets)


def _status(value: Any) -> int:
    if isinstance(value, str) and value.isdigit() and len(value) == len("400"):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600 else 0


def failure_of(status: int, said: Said, *, names_model: bool, retry_after: float | None = None) -> Failure | Refusal:
    """What a refusal with ``status`` is: one for the client to read, or one that another target may make good.

    ``names_model``: the request was for a model, so that what was not found is that, or the way to it.
    """
    if status in _OVERFLOW_STATUS and _is_overflow(said):
        long = InvalidRequest(said.message or "The request is too long for the model.", param=said.param, code=TOO_LONG)
        return Failure("context", long)
    if status in _REFUSING or said.code in _NO_CREDIT:
        return _failure("refused", UpstreamError("The model's upstream does not serve this server.", retry=False))
    if status in _NO_SUCH_WAY or (status == HTTPStatus.NOT_FOUND and names_model):
        return _failure("refused", UpstreamError("The model's upstream does not offer it here.", retry=False))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _failure("rate_limited", RateLimited(_LIMITED, retry_after=retry_after))
    if status in _TOO_SLOW:
        return _failure("timeout", UpstreamTimeout("The model's upstream took too long.", retry_after=retry_after))
    if status in _OVERLOADED:
        return _failure("server_error", Unavailable("The model's upstream is overloaded.", retry_after=retry_after))
    if 400 <= status < 499:
        return Refusal(status, said)
    return _failure("server_error", UpstreamError(f"The model's upstream failed ({status}).", retry_after=retry_after))


def _failure(cause: Cause, error: APIError) -> Failure:
    return Failure(cause, error, retry_after=error.retry_after)


def _is_overflow(said: Said) -> bool:
    return TOO_LONG in (said.code, said.type) or any(_OVERFLOW.search(text) for text in (said.message, said.type) if text)


def nonsense(message: str) -> Failure:
    """The upstream answered what is no answer."""
    return Failure("server_error", UpstreamError(message))


def lost() -> Failure:
    return Failure("lost", UpstreamError(BROKEN_OFF))


def too_late(message: str) -> Failure:
    return Failure("timeout", UpstreamTimeout(message))


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds, from ``retry-after-ms`` or from ``Retry-After`` in either of its forms; None where neither makes sense."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        wait = _seconds(text) if text else None
        if wait is not None:
            return min(max(0.0, wait / unit), _LONGEST_WAIT)
    return None


def _seconds(text: str) -> float | None:
    try:
        wait = float(text)
        return wait if wait == wait else None
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
