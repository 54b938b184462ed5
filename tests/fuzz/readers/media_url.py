"""URLs of pictures and sounds: what is taken is read alike by other parsers, and is a name or an address as it is written."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from yarl import URL

from openai_compat.media.urls import Url, parse, target_of

BASE = Url(scheme="https", host="media.example.com", port=443, path="/a/b", query="")


def fuzz(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = parse(text)
    if found is not None:
        check(found)
        check_others(found, text)
    redirected = target_of(text, BASE)
    if redirected is not None:
        check(redirected)
        if not text.lower().startswith(("http", "//")):
            assert (redirected.scheme, redirected.host, redirected.port) == (BASE.scheme, BASE.host, BASE.port)


def check(found: Url) -> None:
    assert found.scheme in ("http", "https")
    assert found.host.isascii()
    assert found.host == found.host.lower()
    assert not set(found.host + found.path + found.query) & set('\r\n\t \\#"<>')
    if ":" in found.host or found.host.replace(".", "").isdigit():
        assert str(ipaddress.ip_address(found.host)) == found.host
    assert found.path.startswith("/")


def check_others(found: Url, text: str) -> None:
    """Two parsers that read two hosts in one URL are how guards are got around (vLLM CVE-2026-25960)."""
    split = urlsplit(text)
    assert split.hostname == found.host
    assert split.username is None
    assert split.scheme == found.scheme
    if found.port <= 65535:
        assert split.port in (None, found.port)
        assert URL(text).raw_host == found.host
