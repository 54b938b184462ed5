"""Reading a request's body: size capped, content-encoding undone within the same cap."""

from __future__ import annotations

import asyncio
import importlib
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from litestar.types import Receive

from openai_compat.errors import Cancelled, InvalidRequest, RequestTooLarge, UnsupportedMediaType
from openai_compat.sizes import format_size

_PIECE = 1 << 20
_MEMBERS = 256  # each costs a copy of all that follows it, so a body of empty ones would cost hours
_GZIP = 16 + zlib.MAX_WBITS
_FORMS = ("multipart/", "application/x-www-form-urlencoded", "text/")
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")


async def read_json_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """The body as plain bytes of at most ``limit``.

    Raises:
        RequestTooLarge: it is longer, or would be once unpacked.
        UnsupportedMediaType: it is a form or plain text, or packed in a way that is not known here.
        Cancelled: the client left before it was complete.
    """
    fields = {name: value.decode("latin-1").strip().lower() for name, value in headers if name in _FIELDS}
    _check_type(fields.get(b"content-type", ""))
    encodings = [
        name for name in fields.get(b"content-encoding", "").replace(" ", "").split(",") if name not in ("", "identity")
    ]
    unpackers = [_unpacker(name) for name in reversed(encodings)]
    body = await _read(receive, limit, fields.get(b"content-length", ""))
    for unpack in unpackers:
        body = await asyncio.to_thread(unpack, body, limit)
    return body


_FIELDS = frozenset({b"content-type", b"content-encoding", b"content-length"})


def _check_type(content_type: str) -> None:
    """Lenient, since many clients name no type; but a browser sends these three unasked across origins."""
    if content_type.startswith(_FORMS):
        name = content_type.partition(";")[0].strip()
        raise UnsupportedMediaType(f"The content type '{name}' is not supported here. Send application/json.")


async def _read(receive: Receive, limit: int, announced: str) -> bytes:
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("The client left before its request was complete.")
        piece: bytes = message.get("body", b"")  # type: ignore[assignment]
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is larger than {format_size(limit)}.")


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    if encoding in ("gzip", "x-gzip"):
        return _gunzip
    if encoding == "deflate":
        return _inflate
    zstd = _zstd() if encoding == "zstd" else None
    if zstd is None:
        raise UnsupportedMediaType(
            f"The content encoding '{encoding}' is not supported here. Send the body plain or with gzip."
        )
    return lambda body, limit: _unpack(zstd.ZstdDecompressor, body, limit, zstd.ZstdError)


def _zstd() -> Any:
    """The standard library's module (Python 3.14), or its backport where it is installed."""
    for name in _ZSTD_MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _gunzip(body: bytes, limit: int) -> bytes:
    return _unpack(lambda: zlib.decompressobj(_GZIP), body, limit, zlib.error)


def _inflate(body: bytes, limit: int) -> bytes:
    """With the zlib header as the standard says, or raw as some clients send it."""
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] * 256 + body[1]) % 31 == 0
    bits = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
    return _unpack(lambda: zlib.decompressobj(bits), body, limit, zlib.error)


def _unpack(new: Callable[[], Any], body: bytes, limit: int, failure: type[Exception]) -> bytes:
    """Unpack every member, never holding more than ``limit`` and one piece."""
    output: list[bytes] = []
    size = members = 0
    try:
        while body:
            members += 1
            if members > _MEMBERS:
                raise InvalidRequest(f"The compressed request body has more than {_MEMBERS} parts.")
            member = new()
            pending = body
            while not member.eof:
                piece = member.decompress(pending, _PIECE)
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                output.append(piece)
                pending = getattr(member, "unconsumed_tail", b"")
                if not piece and not pending and not member.eof:
                    raise InvalidRequest("The compressed request body ends too early.")
            body = member.unused_data
    except failure:
        raise InvalidRequest("The request body does not match its content-encoding.") from None
    return b"".join(output)
