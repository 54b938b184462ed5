"""A request's body, however it is packed: read within the limit, or refused for what is wrong with it."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest

from openai_compat.errors import APIError, InvalidRequest, PermissionRefused, RequestTooLarge, UnsupportedMediaType
from openai_compat.gateway import body as module
from openai_compat.gateway.body import read_json_body

LIMIT = 1 << 16
TEXT = b'{"model": "m", "text": "' + b"abc" * 1000 + b'"}'


def zstd(data: bytes) -> bytes:
    compressed: bytes = module._zstd().compress(data)
    return compressed


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", bare_deflate),
    ("zstd", zstd),
    ("ZSTD", zstd),
    ("identity", bytes),
]


def read(data: bytes, encoding: str, pieces: int = 3) -> bytes:
    """What comes out of a body that arrives in some pieces."""
    size = max(1, len(data) // pieces)
    parts = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]

    async def receive() -> dict:
        return messages.pop(0)

    return asyncio.run(read_json_body([(b"content-encoding", encoding.encode())], receive, LIMIT))


@pytest.mark.parametrize(("encoding", "pack"), PACKERS)
def test_every_known_packing_is_undone(encoding, pack) -> None:
    assert read(pack(TEXT), encoding) == TEXT


@pytest.mark.parametrize(("encoding", "pack"), [pair for pair in PACKERS if pair[0] != "identity"])
def test_what_unpacks_to_more_than_the_limit_is_too_large(encoding, pack) -> None:
    packed = pack(b" " * (LIMIT * 20))
    assert len(packed) < LIMIT
    with pytest.raises(RequestTooLarge):
        read(packed, encoding)


@pytest.mark.parametrize(("encoding", "pack"), [pair for pair in PACKERS if pair[0] != "identity"])
def test_a_packed_body_that_is_cut_or_broken_is_a_bad_request(encoding, pack) -> None:
    packed = pack(TEXT)
    for broken in (packed[:-9], b"no such thing " * 9):
        with pytest.raises(InvalidRequest):
            read(broken, encoding)


def test_frames_one_after_another_are_one_body() -> None:
    assert read(zstd(TEXT) + zstd(b" "), "zstd") == TEXT + b" "
    assert read(gzip.compress(TEXT) + gzip.compress(b" "), "gzip") == TEXT + b" "


@pytest.mark.parametrize("encoding", ["br", "nonsense", "gzip, br"])
def test_an_unknown_packing_is_refused_before_the_body_is_read(encoding) -> None:
    with pytest.raises(UnsupportedMediaType, match="content encoding"):
        read(b"", encoding)


@pytest.mark.parametrize("encoding", ["gzip, zstd", "gzip,gzip", "gzip, identity, gzip", ",".join(["gzip"] * 1000)])
def test_a_body_is_packed_once(encoding) -> None:
    with pytest.raises(UnsupportedMediaType, match="more than one"):
        read(b"", encoding)


def test_a_window_that_takes_gigabytes_is_refused() -> None:
    parameter = module._zstd().CompressionParameter
    packer = module._zstd().ZstdCompressor(options={parameter.window_log: 27, parameter.enable_long_distance_matching: 1})
    packed = packer.compress(TEXT) + packer.flush()
    with pytest.raises(InvalidRequest, match="does not match"):
        read(packed, "zstd")


def test_without_its_module_zstd_is_refused_and_not_a_failure(monkeypatch) -> None:
    monkeypatch.setattr(module, "_ZSTD_MODULES", ("no.such.module",))
    with pytest.raises(APIError, match="zstd"):
        read(b"", "zstd")


PAGE = [(b"host", b"127.0.0.1:8000"), (b"origin", b"https://evil.example")]


def read_from(headers: list[tuple[bytes, bytes]], *, origins: tuple[str, ...] = ()) -> bytes:
    async def receive() -> dict:
        return {"type": "http.request", "body": TEXT, "more_body": False}

    return asyncio.run(read_json_body(headers, receive, LIMIT, origins=origins))


def test_a_web_page_of_another_origin_sends_nothing_without_a_type() -> None:
    """A browser sends a Blob without a type unasked, as it does forms: every page could use a server that has no keys."""
    with pytest.raises(PermissionRefused, match="other origins"):
        read_from(PAGE)
    with pytest.raises(PermissionRefused, match="other origins"):
        read_from([*PAGE, (b"content-type", b"")], origins=("https://good.example",))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        PAGE[:1],
        [*PAGE, (b"content-type", b"application/json")],
        [*PAGE, (b"authorization", b"Bearer sk-one")],
        [(b"host", b"127.0.0.1:8000"), (b"origin", b"http://127.0.0.1:8000")],
    ],
    ids=["no page", "no origin", "a type, before which it asks", "a key, before which it asks", "our own page"],
)
def test_others_need_to_name_none(headers) -> None:
    assert read_from(headers) == TEXT


def test_an_origin_that_is_allowed_needs_to_name_none() -> None:
    assert read_from(PAGE, origins=("https://evil.example",)) == TEXT
