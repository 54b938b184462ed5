"""Who is asking, where proxies stand in front: what of a forwarded list is believed, and of whom."""

from __future__ import annotations

import asyncio

import pytest

from openai_compat.http.proxies import TrustedProxies, network

LISTED = ("10.0.0.7", "192.168.0.0/16", "2001:db8::/32")


def seen(peer: tuple[str, int] | None, *lists: str, scheme: str = "http", **others: str) -> dict:
    """The scope that the application gets."""
    found: dict = {}

    async def app(scope, receive, send) -> None:
        found.update(scope)

    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in lists]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in others.items()]
    scope = {"type": "http", "client": peer, "headers": headers, "scheme": scheme, "path": "/v1/models"}
    asyncio.run(TrustedProxies(app, proxies=LISTED)(scope, None, None))  # type: ignore[arg-type]
    return found


def client(peer: str, *lists: str) -> str:
    return seen((peer, 5000), *lists)["client"][0]


def test_a_listed_proxy_says_who_asks() -> None:
    assert client("10.0.0.7", "203.0.113.9") == "203.0.113.9"


def test_nobody_else_does() -> None:
    assert seen(("203.0.113.1", 5000), "127.0.0.1")["client"] == ("203.0.113.1", 5000)


def test_what_a_client_wrote_in_front_of_its_own_address_is_not_believed() -> None:
    assert client("10.0.0.7", "127.0.0.1, 10.0.0.7, 203.0.113.9") == "203.0.113.9"


def test_proxies_behind_one_another_are_passed_over() -> None:
    assert client("10.0.0.7", "1.1.1.1, 203.0.113.9, 192.168.3.4, 10.0.0.7") == "203.0.113.9"


def test_several_headers_are_one_list() -> None:
    assert client("10.0.0.7", "127.0.0.1", "203.0.113.9", "192.168.1.1") == "203.0.113.9"


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db9::1]:4711", "2001:db9::1"),
        ("2001:db9::1", "2001:db9::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_addresses_come_in_several_spellings(hop: str, address: str) -> None:
    assert client("10.0.0.7", hop) == address


@pytest.mark.parametrize("hop", ["unknown", "_hidden", "", "999.1.1.1", "fe80::1%eth0", "a" * 5000, "é", "localhost"])
def test_what_is_no_address_ends_the_list_at_the_proxy_that_wrote_it(hop: str) -> None:
    assert client("10.0.0.7", f"203.0.113.9, {hop}") == "10.0.0.7"
    assert client("10.0.0.7", f"203.0.113.9, {hop}, 192.168.0.9") == "192.168.0.9"


def test_a_mapped_address_of_a_proxy_is_its_address() -> None:
    assert client("::ffff:10.0.0.7", "203.0.113.9") == "203.0.113.9"


def test_of_a_list_without_end_only_the_nearest_are_looked_at() -> None:
    assert client("10.0.0.7", "203.0.113.9," + ",".join(["10.0.0.7"] * 10_000)) == "10.0.0.7"


def test_a_peer_without_an_address_stays_one() -> None:
    assert seen(None, "203.0.113.9")["client"] is None


def test_nothing_else_that_a_proxy_says_changes_anything() -> None:
    told = {
        "x_forwarded_proto": "https",
        "x_forwarded_host": "evil.example",
        "x_forwarded_prefix": "/health",
        "forwarded": "for=1.1.1.1;host=evil",
    }
    scope = seen(("10.0.0.7", 1), **told)
    assert (scope["scheme"], scope["path"], scope["client"]) == ("http", "/v1/models", ("10.0.0.7", 1))


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "*", "proxy.example", "10.0.0.1/24", ""])
def test_everybody_is_no_proxy_and_names_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        network(text)
