"""An answer as bytes, for a client that no application is asked about."""

from __future__ import annotations

from http import HTTPStatus

from openai_compat.errors import APIError, error_headers, kind_of
from openai_compat.http.errors import encode_error


def raw_answer(error: APIError, request_id: str) -> bytes:
    """The last answer of a connection."""
    status = HTTPStatus(kind_of(error).status)
    body = encode_error(error)
    more = "".join(f"{name}: {value}\r\n" for name, value in error_headers(error).items())
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\n"
        f"{more}connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
