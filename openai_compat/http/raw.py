"""An answer as bytes, for a client that no application is asked about."""

from __future__ import annotations

from http import HTTPStatus

from openai_compat.errors import APIError, error_headers, kind_of
from openai_compat.http.errors import encode_error


def raw_answer(error: APIError, request_id: str, *, last: bool = True) -> bytes:
    """``last``: the connection is closed behind it."""
    status = HTTPStatus(kind_of(error).status)
    body = encode_error(error)
    fields = error_headers(error) | ({"connection": "close"} if last else {})
    more = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\n"
        f"{more}\r\n"
    )
    return head.encode("latin-1") + body
