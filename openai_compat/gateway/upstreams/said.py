"""What an upstream says when it refuses: errors in every shape that servers have for them, and how long to wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from msgspec import Struct

from openai_compat.gateway.upstreams.scrub import scrub_message

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
_LONGEST_CODE = 100
_LONGEST_WAIT = 86_400.0


class Said(Struct, frozen=True, kw_only=True):
    """An error in an upstream's words, whatever shape they came in. ``status`` is what the body itself says, 0 if nothing."""

    message: str = ""
    type: str = ""
    param: str | None = None
    code: str | None = None
    status: int = 0


def read_error(body: bytes, secrets: tuple[str, ...]) -> Said:
    """What ``body`` says, as OpenAI, vLLM, SGLang, FastAPI, Ollama, Gemini and others say it, or as a plain text."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
    kind, code = _word(fields.get("type"), secrets) or "", _word(fields.get("code"), secrets)
    return Said(
        message=scrub_message(message, secrets),
        type=kind,
        param=_word(fields.get("param"), secrets) or param,
        code=code,
        status=status or _STATUS_OF_TYPE.get(kind, 0) or _STATUS_OF_TYPE.get(code or "", 0),
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
