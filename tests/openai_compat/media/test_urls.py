"""Which URLs are taken at all: what two parsers may read in two ways is none."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import yarl
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.media.urls import PORTS, checked, is_remote, not_enabled, parse, target_of


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://example.org", ("http", "example.org", 80, "/", "")),
        ("https://example.org/", ("https", "example.org", 443, "/", "")),
        ("HTTPS://Example.ORG/A.png?b=C&d=%20e", ("https", "example.org", 443, "/A.png", "b=C&d=%20e")),
        ("http://example.org:443/@a/b:c", ("http", "example.org", 443, "/@a/b:c", "")),
        ("http://example.org?", ("http", "example.org", 80, "/", "")),
        ("http://example.org?a=/b?c", ("http", "example.org", 80, "/", "a=/b?c")),
        ("http://1.1.1.1/a/../b", ("http", "1.1.1.1", 80, "/a/../b", "")),
        ("http://[2606:4700::1111]:80/", ("http", "2606:4700::1111", 80, "/", "")),
        ("http://xn--bcher-kva.example/", ("http", "xn--bcher-kva.example", 80, "/", "")),
        ("http://a_b.c-d.example/", ("http", "a_b.c-d.example", 80, "/", "")),
    ],
)
def test_a_plain_url_is_taken_apart(text, parts) -> None:
    found = parse(text)
    assert found is not None
    assert (found.scheme, found.host, found.port, found.path, found.query) == parts


@pytest.mark.parametrize(
    "text",
    [
        "http://user@example.org/",
        "http://user:password@example.org/",
        "http://@example.org/",
        "http://example.org#@127.0.0.1/",
        "http://example.org/#fragment",
        "http://example.org\\@127.0.0.1/",
        "http:\\\\example.org/",
        "http:/example.org/",
        "http:example.org",
        "http:///example.org/",
        "http://example.org/a b",
        " http://example.org/",
        "http://example.org/ ",
        "http://example.org/\n",
        "http://exam\tple.org/",
        "http://example.org/\r\nHost: 127.0.0.1",
        "http://example.org/\x00",
        "http://example.org/\x7f",
        "http://example.org/%",
        "http://example.org/%zz",
        "http://exa%6dple.org/",
        "http://example.org%00.evil.example/",
        "http://example.org:80:80/",
        "http://example.org:/",
        "http://example.org:x/",
        "http://example.org:-1/",
        "http://example.org:000080/",
        "http://exämple.org/",
        "http://example。org/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://\u212aelvin.example/",
        "http\u017f://example.org/",
        "http://example.org/\u017f",
        "http://example.org./",
        "http://example..org/",
        "http://.example.org/",
        "http://-example.org/",
        "http://localhost/",
        "http://localhost./",
        "http://LOCALHOST:80/",
        "http://intranet/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.1./",
        "http://0127.0.0.1/",
        "http://127.0.0.01/",
        "http://256.0.0.1/",
        "http://1.1.1.1.1/",
        "http://example.0x7f/",
        "http://example.1/",
        "http://[::1%25lo]/",
        "http://[::1%lo]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[::ffff:127.0.0.1",
        "http://::1/",
        "http://[127.0.0.1]/",
        "http://[v1.a]/",
        "http://",
        "https://?a=b",
        "",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "data:image/png;base64,",
        "//example.org/",
        "http://example.org/" + "a" * 4096,
        "http://" + "a" * 64 + ".example/",
        "http://" + ".".join(["a" * 50] * 6) + ".example/",
    ],
)
def test_whatever_can_be_read_in_two_ways_is_not_taken(text) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("https://b.example/x", "https://b.example:443"),
        ("//b.example/x", "http://b.example:80"),
        ("/x?y", "http://a.example:8080"),
    ],
)
def test_a_redirect_is_a_whole_url_or_a_path(location, origin) -> None:
    base = parse("http://a.example:8080/old/place")
    assert base is not None
    found = target_of(location, base)
    assert found is not None
    assert found.origin == origin
    assert found.path == "/x"


@pytest.mark.parametrize(
    "location",
    ["", "x", "../x", "?x", "#x", "/x#y", "/\\b.example", "\\\\b.example", "///b.example/", "/x y", "file:///etc/passwd",
     "ftp://b.example/", "data:image/png;base64,", "gopher://b.example/", "javascript:1", "http://u@b.example/",
     "//u@b.example/", "@b.example/", ".b.example/", ":1@b.example/"],
)  # fmt: skip
def test_no_other_redirect_is_followed(location) -> None:
    base = parse("http://[2606:4700::1111]/old")
    assert base is not None
    assert target_of(location, base) is None


def test_what_is_remote_is_told_by_its_beginning() -> None:
    assert is_remote("hTTp://")
    assert is_remote("https://example.org")
    assert not any(map(is_remote, ("http:/x", "data:,", " http://x", "ftp://x", "")))


def test_what_is_wrong_with_the_text_alone_is_said_without_it() -> None:
    assert checked("https://example.org/a", "p") == "https://example.org/a"
    with pytest.raises(InvalidRequest) as caught:
        checked("http://me:secret@example.org/", "p")
    assert (caught.value.param, caught.value.code) == ("p", "invalid_value")
    assert "secret" not in caught.value.message
    with pytest.raises(UnsupportedParameter) as other:
        checked("file:///etc/passwd", "p")
    assert other.value.param == "p"
    assert "passwd" not in other.value.message


def test_where_nothing_is_fetched_the_setting_is_named_and_nothing_else_of_it() -> None:
    refused = not_enabled("messages[0].content[1].image_url")
    assert refused.param == "messages[0].content[1].image_url"
    assert "not enabled" in refused.message
    assert "media.remote_urls" in refused.message


PIECES = (
    "http://", "https://", "HTTP://", "//", "/", "\\", "@", "#", "?", ":", ":80", ":443", ".", "..", "%", "%2f", "%40", "%00",
    "example.org", "evil.example", "localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[", "]", "user", "a", "=", "&",
    ";", " ", "\t", "\n", "\r", "\x00", "\u3002", "\uff0f", "\uff20", "\u017f", "\u212a", "\xad", "ß",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "http://" + "".join(pieces)))
@settings(max_examples=1000, deadline=None)
def test_what_is_taken_every_parser_reads_in_the_same_way(text) -> None:
    """Of a check by one parser and a fetch by another there would be a difference to use."""
    found = parse(text)
    if found is None:
        return
    split, yarled = urlsplit(text), yarl.URL(text)
    assert split.hostname == yarled.host == found.host
    assert (split.port or PORTS[split.scheme]) == yarled.port == found.port
    assert split.username is split.password is yarled.user is yarled.password is None
    assert (split.path or "/", split.query) == (found.path, found.query)
    assert split.fragment == yarled.fragment == ""


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
@settings(max_examples=500, deadline=None)
def test_no_text_breaks_it(text) -> None:
    base = parse("https://example.org/a")
    assert base is not None
    for found in (parse(text), parse("http://" + text), target_of(text, base), target_of("/" + text, base)):
        assert found is None or found.host
