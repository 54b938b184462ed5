"""A request as bytes."""

from __future__ import annotations

import pytest
from yarl import URL

from openai_compat.errors import InvalidRequest
from openai_compat.gateway.upstreams.wire import packed

HEADERS = [(b"accept", b"*/*"), (b"x-name", "é".encode("latin-1"))]


def test_a_request_is_its_line_its_headers_its_length_and_its_body() -> None:
    assert packed("POST", URL("https://h/v1/a%20b?x=%2F", encoded=True), HEADERS, b"body") == (
        b"POST /v1/a%20b?x=%2F HTTP/1.1\r\nhost: h\r\naccept: */*\r\nx-name: \xe9\r\ncontent-length: 4\r\n\r\nbody"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h:80/v1", b"h"),
        ("https://h:443/v1", b"h"),
        ("http://h:8080/v1", b"h:8080"),
        ("http://[::1]:8080/v1", b"[::1]:8080"),
        ("http://b\u00fccher.example/v1", b"xn--bcher-kva.example"),
    ],
)
def test_the_host_is_named_as_servers_expect_it(url, host) -> None:
    assert b"\r\nhost: " + host + b"\r\n" in packed("POST", URL(url), [], b"")


@pytest.mark.parametrize(("method", "announced"), [("GET", False), ("HEAD", False), ("POST", True), ("DELETE", True)])
def test_an_empty_body_is_announced_where_one_is_expected(method, announced) -> None:
    assert (b"content-length: 0" in packed(method, URL("http://h/v1"), [], b"")) is announced


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\n", b"\ra"])
def test_a_header_that_would_be_two_is_refused(value) -> None:
    with pytest.raises(InvalidRequest):
        packed("POST", URL("http://h/v1"), [(b"a", value)], b"\r\n")
