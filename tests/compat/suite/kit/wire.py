"""HTTP/1.1 messages read back from the bytes that went by."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from email.message import Message as Headers
from email.parser import BytesParser

LENGTH = re.compile(rb"[0-9a-fA-F]+")


class Broken(ValueError):
    """What no HTTP/1.1 message looks like."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A request (``GET /x HTTP/1.1``) or an answer (``HTTP/1.1 200 OK``); ``whole`` is False where the other side left."""

    first: str
    headers: Headers
    body: bytes
    whole: bool = True

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def path(self) -> str:
        return self.first.split(" ")[1].partition("?")[0]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def content_type(self) -> str:
        return self.headers.get_content_type() if "content-type" in self.headers else ""

    def text(self) -> str:
        return unpacked(self.body, self.headers.get("content-encoding", "")).decode("utf-8", "replace")


def unpacked(body: bytes, encoding: str) -> bytes:
    """Curl and the SDKs ask for gzip; what is cut off is unpacked as far as it goes."""
    if encoding == "gzip":
        return zlib.decompressobj(wbits=31).decompress(body) if body else b""
    if encoding == "deflate":
        return zlib.decompressobj().decompress(body)
    return body


def packed(body: bytes) -> bytes:
    return gzip.compress(body)


def take(data: bytes, *, asked: str | None = None, ended: bool = False) -> tuple[Message, int] | None:
    """The first message of ``data`` and where it ends; None while it is not all there, unless the other side ``ended`` it.

    ``asked`` is the method that an answer answers; None reads a request.
    """
    head, found, _ = data.partition(b"\r\n\r\n")
    if not found:
        return None
    first, _, lines = head.partition(b"\r\n")
    headers = BytesParser().parsebytes(lines + b"\r\n\r\n", headersonly=True)
    begin = len(head) + 4
    words = first.decode("latin-1")
    if asked is not None and words.split(" ")[1][:1] == "1":
        return take(data[begin:], asked=asked, ended=ended) and _after(begin, take(data[begin:], asked=asked, ended=ended))
    body, end, whole = _body(data, begin, headers, asked, words)
    if not whole and not ended:
        return None
    return Message(first=words, headers=headers, body=body, whole=whole), end


def _after(begin: int, found: tuple[Message, int] | None) -> tuple[Message, int] | None:
    return None if found is None else (found[0], begin + found[1])


def _body(data: bytes, begin: int, headers: Headers, asked: str | None, first: str) -> tuple[bytes, int, bool]:
    if asked == "HEAD" or (asked is not None and first.split(" ")[1] in {"204", "304"}):
        return b"", begin, True
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _chunks(data, begin)
    if (length := headers.get("content-length")) is not None:
        end = begin + int(length)
        return data[begin:end], min(end, len(data)), len(data) >= end
    if asked is None:
        return b"", begin, True
    return data[begin:], len(data), False  # until the connection closes


def _chunks(data: bytes, at: int) -> tuple[bytes, int, bool]:
    body = bytearray()
    while (line := data.find(b"\r\n", at)) != -1:
        size = LENGTH.match(data, at)
        if size is None:
            raise Broken("a chunk without a size")
        length, begin = int(size.group(), 16), line + 2
        if length == 0:
            end = data.find(b"\r\n", begin)
            return bytes(body), (end + 2 if end != -1 else len(data)), end != -1
        body += data[begin : begin + length]
        at = begin + length + 2
    return bytes(body), len(data), False
