"""Bodies that came packed: what they hold, up to the limit, or a refusal."""

from __future__ import annotations

import zlib

from openai_compat.errors import InvalidRequest, RequestTooLarge
from openai_compat.gateway.body import _unpacker

ENCODINGS = ("gzip", "deflate", "zstd")
LIMIT = 64 << 10


def fuzz(data: bytes) -> None:
    """The first byte chooses the encoding."""
    encoding, body = ENCODINGS[(data[0] if data else 0) % len(ENCODINGS)], data[1:]
    try:
        plain = _unpacker(encoding)(body, LIMIT)
    except (InvalidRequest, RequestTooLarge) as error:
        error.message.encode()
        return
    assert len(plain) <= LIMIT
    if encoding == "gzip" and body:
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
        assert plain.startswith(reader.decompress(body))
