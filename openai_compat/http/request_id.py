"""The id of a request: the client's own where its form is harmless, else a new one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from random import getrandbits

HEADER = b"x-request-id"
_HARMLESS = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def new_request_id() -> str:
    return f"req_{getrandbits(128):032x}"


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == HEADER and _HARMLESS.fullmatch(value):
            return value.decode("ascii")
    return new_request_id()
