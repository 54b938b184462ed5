"""Which heads are clear, without a connection; ``test_strict`` sends them."""

from __future__ import annotations

import pytest

from openai_compat.errors import InvalidRequest
from openai_compat.http.request_head import check_head, is_chunked, is_host


@pytest.mark.parametrize(
    "host", [b"localhost", b"localhost:8000", b"localhost:", b"[::1]", b"[fe80::1]:80", b"a_b-c.example.", b"10.0.0.1:1"]
)
def test_hosts(host: bytes) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b"a b",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a@b",
        b"a,b",
        b"a:b",
        b"a:123456",
        b"[::1",
        b"::1",
        b"a\xe9",
        b"a" * 256,
        b"a\n",
    ],
)
def test_what_is_no_host(host: bytes) -> None:
    assert not is_host(host)


def test_chunks_are_the_only_transfer_encoding() -> None:
    assert is_chunked(b" Chunked\t")
    assert not any(map(is_chunked, (b"", b"gzip, chunked", b"chunked,", b"xchunked", b'"chunked"', b"\x0bchunked")))


def test_a_request_of_http_1_0_needs_no_host() -> None:
    check_head("1.0", b"/", None, chunked=False)
    with pytest.raises(InvalidRequest, match="no Host"):
        check_head("1.1", b"/", None, chunked=False)


def test_an_absolute_address_names_the_host_that_the_header_names() -> None:
    check_head("1.1", b"HTTPS://A:1/x?y=http://b/", b"a:1", chunked=False)
    with pytest.raises(InvalidRequest, match="two hosts"):
        check_head("1.1", b"http://a:1/x", b"a", chunked=False)


def test_two_hundred_thousand_bytes_are_looked_at_in_no_time() -> None:
    with pytest.raises(InvalidRequest):
        check_head("1.1", b"http://" + b"a" * 200_000 + b"#", b"a", chunked=False)
    assert not is_host(b"[" + b":" * 200_000)
