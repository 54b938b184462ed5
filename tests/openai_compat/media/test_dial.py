"""Where a fetch leads: which addresses are dialled, which redirects followed, whose certificate is believed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess

import pytest

from openai_compat.media.addresses import is_public
from openai_compat.media.dial import Policy
from openai_compat.protocol import FetchRules
from tests.openai_compat.media.web import HERE, HOST, PNG, Names, Site, answer, fetcher, get, moved, play, refusal, url_of

# ---------------------------------------------------------------- where it leads


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["fd00:ec2::254"],
     ["0.0.0.0"], ["1.1.1.1", "127.0.0.1"], ["2606:4700::1111", "fe80::1%lo"], []],
)  # fmt: skip
def test_one_address_that_is_not_public_spoils_the_name(addresses, monkeypatch) -> None:
    async def scenario(site: Site) -> None:
        dialled: list[object] = []

        async def dial(self: object, sock: socket.socket, address: object) -> None:
            dialled.append(address)
            raise OSError

        monkeypatch.setattr(asyncio.BaseEventLoop, "sock_connect", dial, raising=False)
        monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", dial)
        names = Names(**{HOST: [addresses]})
        refused = await refusal(fetcher(site, names, allowed=is_public), url_of(site))
        assert refused.code == "invalid_image_url"
        assert dialled == []

    play(scenario)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "169.254.169.254"])
def test_an_address_in_the_url_is_looked_at_like_any_other(host) -> None:
    async def scenario(site: Site) -> None:
        assert (await refusal(fetcher(site, resolve=None, allowed=is_public), url_of(site, host=host))).param == "p0"
        assert site.connections == 0

    play(scenario)


def test_a_name_of_this_machine_leads_nowhere_by_the_systems_resolver() -> None:
    async def scenario(site: Site) -> None:
        for host in ("localhost.localdomain", socket.gethostname() + ".local", "localhost.example"):
            with contextlib.suppress(UnicodeError):
                await refusal(fetcher(site, resolve=None, allowed=is_public), url_of(site, host=host))
        assert site.connections == 0

    play(scenario)


def test_a_name_is_asked_for_once_so_that_a_second_answer_leads_nowhere(monkeypatch) -> None:
    """DNS rebinding: the second answer is another machine's, where a trap listens on the same port."""

    async def scenario(site: Site) -> None:
        async with Site().up("127.0.0.2", site.port) as trap:
            names = Names(**{HOST: [[HERE], ["127.0.0.2"]]})
            assert await get(fetcher(site, names), url_of(site)) == [PNG]
            assert (names.asked, trap.connections) == ([HOST], 0)

    def ask(*_: object, **__: object) -> None:
        raise AssertionError("the system's resolver was asked again")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", ask)
    play(scenario)


def test_a_redirects_name_is_asked_for_anew_and_checked_anew() -> None:
    async def scenario(site: Site) -> None:
        async with Site().up("127.0.0.2", site.port) as trap:
            site.pages["/r"] = moved("/a.png")
            names = Names(**{HOST: [[HERE], ["127.0.0.2"]]})
            await refusal(fetcher(site, names), url_of(site, "/r"))
            assert (names.asked, trap.connections) == ([HOST, HOST], 0)

    play(scenario)


def test_only_the_two_ports_of_the_web_are_dialled() -> None:
    async def scenario(site: Site) -> None:
        await refusal(fetcher(site, ports=Policy().ports), url_of(site))
        assert site.connections == 0

    play(scenario)
    assert Policy().ports == {80, 443}


def test_three_redirects_are_followed_and_no_fourth() -> None:
    async def scenario(site: Site) -> None:
        for number, status in enumerate(("301 Moved", "303 See Other", "307 T", "308 P"), 1):
            site.pages[f"/{number}"] = moved(f"/{number - 1}", status=status)
        site.pages["/0"] = answer(PNG)
        assert await get(fetcher(site), url_of(site, "/3")) == [PNG]
        site.requests.clear()
        await refusal(fetcher(site), url_of(site, "/4"))
        assert len(site.requests) == 4

    play(scenario)


@pytest.mark.parametrize(
    "location",
    ["http://private.example:{port}/a.png", "http://127.0.0.2:{port}/a.png", "http://2130706434:{port}/a.png",
     "http://other.example:22/a.png", "file:///etc/passwd", "ftp://other.example:{port}/a.png", "gopher://other.example/",
     "data:image/png;base64,iVBORw0KGgo=", "//user@other.example:{port}/a.png", "http:\\\\127.0.0.2:{port}\\a.png",
     "http://other.example:{port}/a.png#@x", "a.png", "", "http://nowhere.example:{port}/a.png"],
)  # fmt: skip
def test_a_redirect_to_anywhere_else_is_not_followed(location) -> None:
    async def scenario(site: Site) -> None:
        async with Site().up("127.0.0.2", site.port) as trap:
            site.pages["/r"] = moved(location.format(port=site.port))
            names = Names(**{"private.example": [["127.0.0.2"]]})
            await refusal(fetcher(site, names), url_of(site, "/r"))
            assert (len(site.requests), trap.connections) == (1, 0)

    play(scenario)


def test_two_places_at_once_are_none() -> None:
    async def scenario(site: Site) -> None:
        site.pages["/r"] = moved("/a.png", "/a.png")
        await refusal(fetcher(site), url_of(site, "/r"))

    play(scenario)


def test_where_hosts_are_listed_no_other_is_asked_by_a_redirect_neither() -> None:
    async def scenario(site: Site) -> None:
        rules = FetchRules(max_bytes=1000, timeout=5.0, hosts=("*.example", "exact.test"))
        site.pages["/r"] = moved(url_of(site, host="other.test"))
        names = Names(**{"other.test": [[HERE]], "exact.test": [[HERE]], "sub.exact.test": [[HERE]]})
        assert await get(fetcher(site, names), url_of(site), rules=rules) == [PNG]
        assert await get(fetcher(site, names), url_of(site, host="EXACT.test"), rules=rules) == [PNG]
        for url in (url_of(site, "/r"), url_of(site, host="other.test"), url_of(site, host="sub.exact.test")):
            await refusal(fetcher(site, names), url, rules=rules)
        assert len(site.requests) == 3
        assert names.asked.count("other.test") == 0

    play(scenario)


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side, for ``HOST`` alone, and a client's that trusts its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{HOST}"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(["openssl", "req", "-x509", *new, *names, *files], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert", folder / "key")
    return server, ssl.create_default_context(cafile=str(folder / "cert"))


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(certified) -> None:
    server, client = certified
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def scenario(_: Site) -> None:
        async with Site().up(tls=server) as site:
            assert await get(fetcher(site, tls=client), url_of(site, scheme="https")) == [PNG]
            assert asked == [HOST]
            await refusal(fetcher(site, tls=client), url_of(site, scheme="https", host="other.example"))
            await refusal(fetcher(site), url_of(site, scheme="https"))
            assert len(site.requests) == 1

    play(scenario)


def test_a_redirect_does_not_lead_away_from_tls(certified) -> None:
    server, client = certified

    async def scenario(plain: Site) -> None:
        async with Site().up(tls=server) as site:
            site.pages["/r"] = moved(url_of(plain))
            ports = frozenset({plain.port, site.port})
            await refusal(fetcher(site, tls=client, ports=ports), url_of(site, "/r", scheme="https"))
            assert plain.connections == 0
            plain.pages["/r"] = moved(url_of(site, scheme="https"))
            assert await get(fetcher(site, tls=client, ports=ports), url_of(plain, "/r")) == [PNG]

    play(scenario)
