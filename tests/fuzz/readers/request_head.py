"""Header fields that decide something: keys, forwarded addresses, hosts, targets, request ids."""

from __future__ import annotations

import ipaddress
from typing import Any

from openai_compat.auth import _names_this_machine, _presented_key
from openai_compat.errors import AuthenticationFailed, InvalidRequest
from openai_compat.http.proxies import TrustedProxies
from openai_compat.http.request_head import check_head, is_chunked, is_host
from openai_compat.http.request_id import request_id_of

NAMES = (b"authorization", b"x-api-key", b"x-forwarded-for", b"x-request-id", b"host", b"transfer-encoding", b"forwarded")
PROXY, STRANGER = ("10.1.2.3", 5), ("203.0.113.9", 5)


def fuzz(data: bytes) -> None:
    """A line is a header, named by its first byte; bytes that end a line cannot be in one."""
    lines = [line for line in data.replace(b"\r", b"\n").replace(b"\0", b"\n").split(b"\n") if line]
    headers = [(NAMES[line[0] % len(NAMES)], line[1:]) for line in lines]
    check_key(headers)
    check_forwarded(headers)
    identifier = request_id_of(headers)
    assert identifier.isascii()
    assert identifier.isprintable()
    for _, value in headers:
        check_value(value)


def check_key(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        key = _presented_key(headers)
    except AuthenticationFailed:
        return
    assert key is None or (key and key == key.strip())


def check_forwarded(headers: list[tuple[bytes, bytes]]) -> None:
    assert client(headers, STRANGER) == STRANGER
    assert client(headers, ("not an address", 0)) == ("not an address", 0)
    host, _ = client(headers, PROXY)
    assert str(ipaddress.ip_address(host)) == host


def client(headers: list[tuple[bytes, bytes]], peer: tuple[str, int]) -> Any:
    seen: list[Any] = []

    async def nothing() -> None: ...

    def app(scope: Any, receive: Any, send: Any) -> Any:
        seen.append(scope["client"])
        return nothing()

    scope: Any = {"type": "http", "client": peer, "headers": headers}
    TrustedProxies(app, proxies=("10.0.0.0/8",))(scope, None, None).close()  # type: ignore[arg-type, attr-defined]
    return seen[0]


def check_value(value: bytes) -> None:
    _names_this_machine(value.decode("latin-1"))
    if is_host(value):
        assert not set(value) & set(b"/\\@?#%, \t")
    is_chunked(value)
    for version in ("1.1", "1.0", "2.0"):
        try:
            check_head(version, value, b"api.example.com", chunked=False)
        except InvalidRequest as error:
            error.message.encode()
        else:
            assert value[:1] in b"/*" or value.lower().startswith((b"http://api.example.com", b"https://api.example.com"))
