"""What the head of a request must be, beyond what the parser sees to: two servers must not read it in two ways."""

from __future__ import annotations

import re
from functools import lru_cache

from openai_compat.errors import InvalidRequest

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(?:[/?][^#]*)?", re.IGNORECASE)


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    """A name or an address, with or without a port, and nothing else (Starlette CVE-2026-48710)."""
    return _HOST.fullmatch(value) is not None


def is_chunked(value: bytes) -> bool:
    """The one transfer encoding that is undone here; a list of them would be handed on half undone."""
    return value.strip(b" \t").lower() == b"chunked"


def check_head(version: str, target: bytes, host: bytes | None, *, chunked: bool) -> None:
    """Raises ``InvalidRequest``. The commonest head passes without a call of anything."""
    if version != "1.1":
        _check_old(version, chunked=chunked)
    elif host is None:
        raise InvalidRequest("The request has no Host header.")
    if target[:1] != b"/" or b"#" in target:
        _check_target(target, host)


def _check_old(version: str, *, chunked: bool) -> None:
    if version != "1.0":
        raise InvalidRequest("This server speaks HTTP/1.1 and HTTP/1.0.")
    if chunked:
        raise InvalidRequest("HTTP/1.0 has no chunked bodies.")


def _check_target(target: bytes, host: bytes | None) -> None:
    """``*``, or an absolute address that names the same host: some proxies send them."""
    if target == b"*":
        return
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise InvalidRequest("The request's address is none that this server can have.")
    if host is not None and found[1].lower() != host.lower():
        raise InvalidRequest("The request's address and its Host header name two hosts.")
