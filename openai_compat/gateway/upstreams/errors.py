"""What an upstream's refusal means: for the client, and for whoever may ask another target."""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec

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
from openai_compat.gateway.upstreams.said import Said

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
# Codes about this server's account or key, or about the way to the model, whatever the status.
_NOT_THE_CLIENTS = frozenset(
    {
        "account_deactivated", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance", "insufficient_quota",
        "invalid_api_key", "model_not_found",
    }
)  # fmt: skip
_BAD_KEY = re.compile(
    r"\b(?:invalid|incorrect|wrong|missing|no) api[ _-]?key|api[ _-]?key (?:is )?(?:not valid|invalid)", re.IGNORECASE
)
_OVERLOADED = frozenset({503, 529})
_TOO_SLOW = frozenset({408, 504, 522, 524})
_REFUSING = frozenset({401, 402, 403, 407, 421, 451})
_NO_SUCH_WAY = frozenset({405, 501})
_CLIENT_ERRORS: dict[int, type[APIError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    413: RequestTooLarge,
    415: UnsupportedMediaType,
}


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


def failure_of(status: int, said: Said, *, names_model: bool, retry_after: float | None = None) -> Failure | Refusal:
    """What a refusal with ``status`` is: one for the client to read, or one that another target may make good.

    ``names_model``: the request was for a model, so that what was not found is that, or the way to it.
    """
    if status in _OVERFLOW_STATUS and _is_overflow(said):
        long = InvalidRequest(said.message or "The request is too long for the model.", param=said.param, code=TOO_LONG)
        return Failure("context", long)
    if (
        status in _REFUSING
        or said.code in _NOT_THE_CLIENTS
        or (status == HTTPStatus.BAD_REQUEST and _BAD_KEY.search(said.message))
    ):
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
