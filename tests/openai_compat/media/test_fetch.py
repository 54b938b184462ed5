"""Fetching by URL: what is dialled, what is followed, what is counted, and what a client learns when nothing comes of it.

Servers of the tests are on this machine, so that a policy of theirs stands in for ``is_public``; nothing else is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec import Struct

from openai_compat.errors import InvalidRequest, Unavailable, UnsupportedParameter
from openai_compat.media import fetch
from openai_compat.media.addresses import is_public
from openai_compat.media.dial import Policy
from openai_compat.media.fetch import Fetcher
from openai_compat.protocol import FetchRules

HOST = "pictures.example"
HERE = "127.0.0.1"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
WAV = b"RIFF\x10\x00\x00\x00WAVEfmt " + bytes(20)
GRAIN = 0.05
PATIENCE = 20.0  # seconds after which a test gives up, never what it expects
RULES = FetchRules(max_bytes=1000, timeout=5.0)
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Part(Struct, frozen=True, kw_only=True):
    url: str
    param: str = "messages[0].content[0].image_url"
    kind: str = "picture"
    data: bytes = b""


def answer(body: bytes, *fields: str, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *fields]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def moved(*locations: str, status: str = "302 Found") -> bytes:
    return answer(b"", *(f"Location: {location}" for location in locations), status=status)


class Site:
    """A web server that says by each path whatever it is told to say."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Script] = {"/a.png": answer(PNG)}
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._serving: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def up(self, host: str = HERE, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
        server = await asyncio.start_server(self._serve, host, port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self.open -= 1
            self._serving.discard(task)
            writer.transport.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        target = head.split(b" ")[1].decode()
        page = self.pages.get(target) or self.pages.get(target.partition("?")[0]) or answer(b"", status="404 Not Found")
        if isinstance(page, bytes):
            writer.write(page)
        else:
            await page(writer)
        await writer.drain()


class Names:
    """A resolver that answers what it is told, one answer after another, and counts."""

    def __init__(self, **more: Sequence[Sequence[str]]) -> None:
        self.answers = {HOST: [[HERE]], "other.example": [[HERE]]} | more
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self.answers.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found[min(len(found), self.asked.count(host)) - 1]


def play(scenario: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE), Site().up() as site:
            await scenario(site)

    asyncio.run(run())


def fetcher(site: Site, names: Names | None = None, **changes: Any) -> Fetcher:
    """Lets this machine stand for the internet."""
    given = {
        "allowed": lambda address: address == HERE,
        "ports": frozenset({site.port}),
        "resolve": (names or Names()).resolve,
        "grain": GRAIN,
    }
    return Fetcher(Policy(**(given | changes)))


async def get(made: Fetcher, *urls: str, rules: FetchRules | None = RULES, **more: str) -> list[bytes]:
    parts = [Part(url=url, param=f"p{i}", **more) for i, url in enumerate(urls)]
    try:
        async with made.fetched(parts, rules) as found:
            return [found[part.param] for part in parts]
    finally:
        made.close()


async def refusal(made: Fetcher, *urls: str, rules: FetchRules = RULES, **more: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await get(made, *urls, rules=rules, **more)
    return caught.value


def url_of(site: Site, path: str = "/a.png", host: str = HOST, scheme: str = "http") -> str:
    return f"{scheme}://{host}:{site.port}{path}"


# ---------------------------------------------------------------- what is asked


def test_a_file_comes_as_it_is_and_nothing_of_the_client_goes_along(monkeypatch) -> None:
    async def scenario(site: Site) -> None:
        site.pages["/a.png?b=c%20d"] = answer(PNG, "Set-Cookie: a=b", "Content-Type: text/html", "Content-Encoding: gzip")
        assert await get(fetcher(site), url_of(site, "/a.png?b=c%20d"), url_of(site)) == [PNG, PNG]
        lines = {line for request in site.requests for line in request.decode().split("\r\n") if line}
        assert {line.partition(":")[0].lower() for line in lines if ":" in line} - {"connection"} == {
            "get /a.png?b=c%20d http/1.1", "get /a.png http/1.1", "host", "user-agent", "accept", "accept-encoding",
        } - {"get /a.png?b=c%20d http/1.1", "get /a.png http/1.1"}  # fmt: skip
        assert f"Host: {HOST}:{site.port}" in lines
        assert {"User-Agent: openai-compat", "Accept-Encoding: identity", "GET /a.png?b=c%20d HTTP/1.1"} <= lines

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9/")
    play(scenario)


def test_parts_without_a_url_cost_nothing_and_need_no_rules() -> None:
    async def scenario(site: Site) -> None:
        made = fetcher(site)
        async with made.fetched([Part(url="", data=PNG)], None) as found:
            assert found == {}
        made.close()
        assert site.connections == 0

    play(scenario)


def test_without_rules_nothing_is_fetched() -> None:
    async def scenario(site: Site) -> None:
        with pytest.raises(UnsupportedParameter, match="not enabled") as caught:
            await get(fetcher(site), url_of(site), rules=None)
        assert caught.value.param == "p0"
        assert site.connections == 0

    play(scenario)


def test_a_sound_is_fetched_too_and_a_picture_is_none() -> None:
    async def scenario(site: Site) -> None:
        site.pages["/a.wav"] = answer(WAV)
        assert await get(fetcher(site), url_of(site, "/a.wav"), kind="audio") == [WAV]
        refused = await refusal(fetcher(site), url_of(site), kind="audio")
        assert (refused.param, refused.code) == ("p0", "invalid_audio_url")

    play(scenario)


def test_each_url_is_fetched_once_however_often_it_is_named() -> None:
    async def scenario(site: Site) -> None:
        assert await get(fetcher(site), *[url_of(site)] * 5) == [PNG] * 5
        assert site.connections == 1

    play(scenario)


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


# ---------------------------------------------------------------- how much, how long


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        writer.write(b"3e8\r\n" + PNG.ljust(1000) + b"\r\n")
        await writer.drain()


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + PNG)
    for _ in range(10_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        writer.write(b"X-%d: %s\r\n" % (number, b"y" * 4000))
        await writer.drain()


async def interim(writer: asyncio.StreamWriter) -> None:
    for _ in range(10_000):
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 10)
        await writer.drain()
        await asyncio.sleep(0.001)


async def silence(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + PNG)
    await writer.drain()
    writer.transport.abort()


BAD: dict[str, bytes | Script] = {
    "too large": answer(PNG.ljust(1001)),
    "said to be too large": answer(PNG, length=10**18),
    "endless": endless,
    "dripping": drip,
    "endless head": endless_head,
    "endless hints": interim,
    "silent": silence,
    "cut off": cut,
    "shorter than said": answer(PNG, length=900),
    "longer than said": answer(PNG.ljust(500), length=len(PNG)),
    "no length that can be": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + PNG,
    "two lengths": answer(PNG, "Content-Length: 5"),
    "a huge field": answer(PNG, "X: " + "y" * 100_000),
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "empty": answer(b""),
    "no picture": answer(b"<html>secret of the intranet</html>"),
    "an error": answer(PNG, status="500 Oh"),
    "forbidden": answer(PNG, status="403 Forbidden"),
    "a part": answer(PNG, status="206 Partial Content"),
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + PNG,
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "a loop": moved("/bad"),
    "a way inside": moved("http://127.0.0.2/"),
}


@pytest.mark.parametrize("page", BAD.values(), ids=BAD)
def test_whatever_goes_wrong_a_client_reads_the_same_words(page) -> None:
    async def scenario(site: Site) -> None:
        site.pages["/bad"] = page
        refused = await refusal(fetcher(site), url_of(site, "/bad"), rules=FetchRules(max_bytes=1000, timeout=0.5))
        private = await refusal(fetcher(site, allowed=is_public), url_of(site))
        nowhere = await refusal(fetcher(site), url_of(site, host="nowhere.example"))
        closed = await refusal(fetcher(site, ports=frozenset({1})), f"http://{HOST}:1/a.png")
        kinds = {(type(error), error.message, error.param, error.code) for error in (refused, private, nowhere, closed)}
        assert len(kinds) == 1
        assert (refused.param, refused.code) == ("p0", "invalid_image_url")
        for leak in (HOST, "127", str(site.port), "secret", "bad", "Errno", "Error", "timeout"):
            assert leak not in refused.message

    play(scenario)


def test_no_more_is_taken_from_an_endless_answer_than_may_come() -> None:
    sent = 0

    async def scenario(site: Site) -> None:
        async def count(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(PNG.ljust(65_536))
                sent += 65_536
                await writer.drain()

        site.pages["/a"] = count
        await refusal(fetcher(site), url_of(site, "/a"), rules=FetchRules(max_bytes=1 << 20, timeout=10.0))

    play(scenario)
    assert sent < 32 << 20  # the rest is what the system's buffers hold


@pytest.mark.parametrize("page", [drip, silence, interim])
def test_all_of_a_request_has_one_time_however_slowly_it_comes(page) -> None:
    """The nine files have four connections, and none of them ever ends by itself."""

    async def scenario(site: Site) -> None:
        site.pages["/bad"] = page
        urls = [url_of(site, f"/bad?{number}") for number in range(9)]
        began = time.monotonic()
        await refusal(fetcher(site), *urls, rules=FetchRules(max_bytes=10**7, timeout=0.4))
        assert 0.4 <= time.monotonic() - began < PATIENCE / 2
        assert len(site.requests) == 4

    play(scenario)


def test_a_resolver_that_does_not_answer_has_that_time_too() -> None:
    async def scenario(site: Site) -> None:
        async def resolve(_host: str, _port: int) -> Sequence[str]:
            await asyncio.sleep(3600)
            return []

        await refusal(fetcher(site, resolve=resolve), url_of(site), rules=FetchRules(max_bytes=10, timeout=0.1))

    play(scenario)


def test_failures_are_told_at_whole_grains_of_time() -> None:
    """What is refused at once, and what took a while, come at the same time."""

    async def scenario(site: Site) -> None:
        async def soon(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.1)

        site.pages["/soon"] = soon
        for url in (url_of(site, host="nowhere.example"), url_of(site, "/soon")):
            began = asyncio.get_running_loop().time()
            await refusal(fetcher(site, grain=0.7), url)
            assert asyncio.get_running_loop().time() - began >= 0.69
        assert Policy().grain == 1.0

    play(scenario)


def test_the_files_of_a_request_share_their_bytes(monkeypatch) -> None:
    monkeypatch.setattr(fetch, "TOGETHER", 3 * len(PNG))

    async def scenario(site: Site) -> None:
        for number in range(4):
            site.pages[f"/{number}"] = answer(PNG)
        assert len(await get(fetcher(site), *(url_of(site, f"/{n}") for n in range(3)))) == 3
        await refusal(fetcher(site), *(url_of(site, f"/{n}") for n in range(4)))

    play(scenario)


def test_a_request_has_sixteen_urls_and_four_connections_at_a_time() -> None:
    async def scenario(site: Site) -> None:
        async def slow(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.05)
            writer.write(answer(PNG))

        site.pages |= {f"/{number}": slow for number in range(17)}
        urls = [url_of(site, f"/{number}") for number in range(17)]
        assert len(await get(fetcher(site), *urls[:16])) == 16
        assert site.most_open == 4
        with pytest.raises(InvalidRequest, match="16") as caught:
            await get(fetcher(site), *urls)
        assert caught.value.param == "p16"
        assert site.connections == 16

    play(scenario)


def test_only_so_many_requests_fetch_at_the_same_time_and_the_others_are_told_to_come_again(monkeypatch) -> None:
    monkeypatch.setattr(fetch, "REQUESTS", 1)

    async def scenario(site: Site) -> None:
        made = fetcher(site)
        brief = FetchRules(max_bytes=1000, timeout=0.2)
        async with made.fetched([Part(url=url_of(site))], RULES):  # held until what was fetched is decoded
            with pytest.raises(Unavailable) as caught:
                async with made.fetched([Part(url=url_of(site))], brief):
                    pytest.fail("two at once")
            assert caught.value.retry_after == 1
        assert await get(made, url_of(site)) == [PNG]

    play(scenario)


def test_the_first_that_fails_ends_the_others() -> None:
    async def scenario(site: Site) -> None:
        site.pages["/silent"] = silence
        refused = await refusal(fetcher(site), url_of(site, "/silent"), url_of(site, "/missing"))
        assert refused.param == "p1"

    play(scenario)


def test_who_stops_waiting_leaves_no_connection(monkeypatch) -> None:
    async def scenario(site: Site) -> None:
        gone = asyncio.Event()

        async def watch(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not writer.transport.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.01)
            gone.set()

        site.pages["/a"] = watch
        waiting = asyncio.ensure_future(get(fetcher(site), url_of(site, "/a")))
        while not site.requests:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await gone.wait()

    play(scenario)


def test_the_log_has_the_host_and_nothing_else_of_the_url(caplog) -> None:
    async def scenario(site: Site) -> None:
        with caplog.at_level(logging.DEBUG, logger="openai_compat"):
            await refusal(fetcher(site), url_of(site, "/private-path?token=secret"))

    play(scenario)
    assert HOST in caplog.text
    assert "secret" not in caplog.text
    assert "private-path" not in caplog.text
