"""Fetching by URL: what is asked, how much is taken, for how long, and what a client learns when nothing comes of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import pytest

from openai_compat.errors import InvalidRequest, Unavailable, UnsupportedParameter
from openai_compat.media import fetch
from openai_compat.media.addresses import is_public
from openai_compat.media.dial import Policy
from openai_compat.protocol import FetchRules
from tests.openai_compat.media.web import (
    HOST,
    PATIENCE,
    PNG,
    RULES,
    WAV,
    Part,
    Script,
    Site,
    answer,
    fetcher,
    get,
    moved,
    play,
    refusal,
    url_of,
)

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
