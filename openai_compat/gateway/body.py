"""Reading a request's body: size capped, content-encoding undone within the same cap, forms parsed as they come in."""

from __future__ import annotations

import asyncio
import importlib
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any

from litestar.types import Receive

from openai_compat.errors import Cancelled, InvalidRequest, PermissionRefused, RequestTooLarge, UnsupportedMediaType
from openai_compat.gateway.spool import Spooled
from openai_compat.http.form import Form, FormReader, is_form
from openai_compat.sizes import format_size

_PIECE = 1 << 20
_MEMBERS = 256  # each costs a copy of all that follows it, so a body of empty ones would cost hours
_GZIP = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW = 23  # the power of two that RFC 9659 allows; a frame may ask for 2 GiB
_FORMS = ("multipart/", "application/x-www-form-urlencoded", "text/")
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")
_KEYS = (b"authorization", b"x-api-key")

Headers = Iterable[tuple[bytes, bytes]]


def brings_form(headers: Headers) -> bool:
    return any(name == b"content-type" and is_form(value.decode("latin-1")) for name, value in headers)


async def read_form_body(
    headers: Headers, receive: Receive, limit: int, spooled: Spooled, origins: Collection[str] = ()
) -> Form:
    """The fields of a form, and of its files the sizes only; the whole body goes into ``spooled`` as it is.

    Raises:
        InvalidRequest: the form is broken, or beyond the limits of ``http.form``.
        PermissionRefused: a web page of an origin that is not in ``origins`` sent it.
        RequestTooLarge: it is longer than ``limit``.
        UnsupportedMediaType: it is packed.
        Unavailable: there is no room for it now.
        Cancelled: the client left before it was complete.
    """
    fields, reader = _form_reader(headers, origins, keep_files=False)
    async for piece in _pieces(receive, limit, fields.get(b"content-length", "")):
        reader.feed(piece)
        await spooled.write(piece)
    return reader.finish()


async def read_whole_form(headers: Headers, receive: Receive, limit: int, origins: Collection[str] = ()) -> Form:
    """A form with its files, in memory. Raises as ``read_form_body`` does."""
    fields, reader = _form_reader(headers, origins, keep_files=True)
    async for piece in _pieces(receive, limit, fields.get(b"content-length", "")):
        reader.feed(piece)
    return reader.finish()


def _form_reader(headers: Headers, origins: Collection[str], *, keep_files: bool) -> tuple[dict[bytes, str], FormReader]:
    fields = _texts(headers)
    _check_origin(fields, origins)
    if fields.get(b"content-encoding", "identity").lower() not in ("", "identity"):
        raise UnsupportedMediaType("A form is taken without a content encoding only.")
    return fields, FormReader(fields.get(b"content-type", ""), keep_files=keep_files)


def _texts(headers: Headers) -> dict[bytes, str]:
    return {name: value.decode("latin-1").strip() for name, value in headers}


def _check_origin(fields: dict[bytes, str], origins: Collection[str]) -> None:
    """A browser sends forms, and bytes without a type, across origins unasked, but a key only after it has asked: see
    ``http.cors``.
    """
    origin = fields.get(b"origin", "")
    if not origin or "*" in origins or origin in origins or any(name in fields for name in _KEYS):
        return
    if origin.partition("://")[2] != fields.get(b"host", ""):
        raise PermissionRefused(
            "Web pages of other origins may send no forms here, and nothing without a type; 'server.cors_origins' can allow it."
        )


async def read_json_body(
    headers: Headers, receive: Receive, limit: int, *, forms: bool = False, origins: Collection[str] = ()
) -> bytes:
    """The body as plain bytes of at most ``limit``. ``forms`` tells whether forms would be taken too, for the refusal's words.

    Raises:
        PermissionRefused: a web page of an origin that is not in ``origins`` sent it without a type.
        RequestTooLarge: it is longer, or would be once unpacked.
        UnsupportedMediaType: it is a form or plain text, or packed in a way that is not known here.
        Cancelled: the client left before it was complete.
    """
    fields = {name: value.decode("latin-1").strip().lower() for name, value in headers if name in _FIELDS}
    content_type = fields.get(b"content-type", "")
    _check_type(content_type, forms)
    if not content_type:
        _check_origin(_texts(headers), origins)
    encodings = [
        name for name in fields.get(b"content-encoding", "").replace(" ", "").split(",") if name not in ("", "identity")
    ]
    if len(encodings) > 1:  # each would be undone up to the limit
        raise UnsupportedMediaType("A body with more than one content encoding is not supported here.")
    unpack = _unpacker(encodings[0]) if encodings else None
    body = await _read(receive, limit, fields.get(b"content-length", ""))
    return body if unpack is None else await asyncio.to_thread(unpack, body, limit)


_FIELDS = frozenset({b"content-type", b"content-encoding", b"content-length"})


def _check_type(content_type: str, forms: bool) -> None:
    """A browser sends these three unasked across origins. Many clients name no type, and are served."""
    if content_type.startswith(_FORMS):
        name = content_type.partition(";")[0].strip()
        taken = "application/json or multipart/form-data" if forms else "application/json"
        raise UnsupportedMediaType(f"The content type '{name}' is not supported here. Send {taken}.")


async def _read(receive: Receive, limit: int, announced: str) -> bytes:
    _check_length(announced, limit)
    body, more = await _piece(receive, limit, limit)
    if not more:  # as a rule
        return body
    pieces, left = [body], limit - len(body)
    while more:
        piece, more = await _piece(receive, left, limit)
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


async def _pieces(receive: Receive, limit: int, announced: str) -> AsyncIterator[bytes]:
    _check_length(announced, limit)
    left, more = limit, True
    while more:
        piece, more = await _piece(receive, left, limit)
        left -= len(piece)
        yield piece


def _check_length(announced: str, limit: int) -> None:
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)


async def _piece(receive: Receive, left: int, limit: int) -> tuple[bytes, bool]:
    """The next piece, if it is no longer than what is ``left`` of ``limit``, and whether more come."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Cancelled("The client left before its request was complete.")
    piece: bytes = message.get("body", b"")  # type: ignore[assignment]
    if len(piece) > left:
        raise _too_large(limit)
    return piece, bool(message.get("more_body", False))


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
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
    return lambda body, limit: _unpack(lambda: zstd.ZstdDecompressor(options=options), body, limit, zstd.ZstdError)


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
