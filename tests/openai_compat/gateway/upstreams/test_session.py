"""Connections to upstreams: dead ones, encrypted ones, ones through a proxy, and answers that come packed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from openai_compat.config import ConfigError, Upstream
from openai_compat.errors import InvalidRequest, UpstreamTimeout
from openai_compat.gateway.order import Failure
from openai_compat.gateway.upstreams import session as sessions
from openai_compat.gateway.upstreams.session import Session, tls_context

KEY = "sk-very-secret-1"
ANSWER = b'{"choices":[{"text":"x"}]}'


def second_time(act: Any) -> Any:
    """Answers the first request of each connection; at the second one ``act`` is done."""

    async def answering(visit: Any) -> None:
        if visit.number == 1:
            visit.answer()
        else:
            await act(visit)

    return answering


async def _close(visit: Any) -> None:
    visit.writer.close()


async def _reset(visit: Any) -> None:
    visit.writer.transport.abort()


async def _half_a_head(visit: Any) -> None:
    visit.writer.write(b"HTTP/1.1 200 OK\r\ncontent-")
    visit.writer.close()


async def _late_close(visit: Any) -> None:
    await asyncio.sleep(0.5)
    visit.writer.close()


@pytest.mark.parametrize("act", [_close, _reset])
@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_connection_that_died_while_it_lay_idle_costs_no_request(serving, sending, make_order, body_from, act, size) -> None:
    async def scenario() -> None:
        async with serving(second_time(act)) as server, sending(server.base) as sender:
            await body_from(sender, make_order())
            order = make_order({"model": "public", "messages": "x" * size})
            assert json.loads(await body_from(sender, order)) == {"choices": [{}]}
            assert [visit.connection for visit in server.visits] == [1, 1, 2]
            assert server.visits[1].body == server.visits[2].body == order.body

    asyncio.run(scenario())


def test_many_dead_connections_cost_no_request_either(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async with serving(second_time(_close)) as server, sending(server.base) as sender:
            await asyncio.gather(*(body_from(sender, make_order()) for _ in range(8)))
            assert server.connections == 8
            await asyncio.gather(*(body_from(sender, make_order()) for _ in range(8)))

    asyncio.run(scenario())


@pytest.mark.parametrize("act", [_half_a_head, _late_close])
def test_what_had_begun_is_not_sent_again(serving, sending, make_order, body_from, act, monkeypatch) -> None:
    monkeypatch.setattr(sessions, "_STALE_WITHIN", 0.2)

    async def scenario() -> None:
        async with serving(second_time(act)) as server, sending(server.base) as sender:
            await body_from(sender, make_order())
            with pytest.raises(Failure) as failure:
                await body_from(sender, make_order())
            assert failure.value.cause == "lost"
            assert len(server.visits) == 2

    asyncio.run(scenario())


def test_a_connection_that_dies_at_once_every_time_is_lost_and_not_tried_for_ever(
    serving, sending, make_order, body_from
) -> None:
    async def answering(visit: Any) -> None:
        if visit.connection == visit.number == 1:
            visit.answer()
        else:
            visit.writer.close()

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            await body_from(sender, make_order())
            with pytest.raises(Failure) as failure:
                await body_from(sender, make_order())
            assert failure.value.cause == "lost"
            assert len(server.visits) == 3

    asyncio.run(scenario())


def test_small_and_large_requests_share_their_connections(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base) as sender:
            for size in (1, 2 << 20, 1, 2 << 20):
                order = make_order({"model": "public", "messages": "x" * size})
                await body_from(sender, order)
                assert server.visits[-1].body == order.body
            assert server.connections == 1
            assert len({frozenset(visit.headers) for visit in server.visits}) == 1

    asyncio.run(scenario())


def test_what_nobody_asked_for_is_not_taken_for_an_answer(serving, sending, make_order, body_from) -> None:
    async def answering(visit: Any) -> None:
        visit.answer()
        await visit.writer.drain()
        await asyncio.sleep(0.05)
        visit.answer(b'{"choices":[{"text":"for another"}]}', "200 OK")

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            for connection in (1, 2, 3):
                assert await body_from(sender, make_order()) == b'{"choices":[{}]}'
                assert server.connections == connection
                await asyncio.sleep(0.2)

    asyncio.run(scenario())


def _two_answers(status: str) -> Any:
    """Each request is answered twice."""

    async def answering(visit: Any) -> None:
        visit.answer(b"" if status.startswith("204") else b"{}", status)
        await visit.writer.drain()
        await asyncio.sleep(0.02)
        visit.answer(b'{"choices":[{"text":"for another"}]}')

    return answering


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "400 Bad Request", "429 Busy", "500 Oh"])
def test_what_follows_a_refusal_is_nobody_elses_answer(serving, sending, make_order, body_from, status) -> None:
    """A server that refuses without having read the body may take that for the next request."""

    async def scenario() -> None:
        async with serving(_two_answers(status)) as server, sending(server.base) as sender:
            for connection in (1, 2, 3):
                with contextlib.suppress(Failure):
                    assert b"for another" not in await body_from(sender, make_order())
                assert server.connections == connection

    asyncio.run(scenario())


def _answers_twice(listening: socket.socket, count: int) -> None:
    """One request a connection, after whose answer comes another."""
    for _ in range(count):
        connection, _ = listening.accept()
        connection.settimeout(10)
        with connection, connection.makefile("rb") as reader:
            head = dict(line.lower().split(b": ", 1) for line in iter(reader.readline, b"\r\n") if b": " in line)
            reader.read(int(head[b"content-length"]))
            for text in (b"mine", b"his!"):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 29\r\n\r\n")
                connection.sendall(b'{"choices":[{"text":"%s"}]}' % text)
                time.sleep(0.1)
            with contextlib.suppress(ConnectionError):
                reader.read(1)


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_what_lies_in_a_socket_while_the_loop_is_busy_is_nobodys_answer(sending, make_order, body_from, size) -> None:
    async def scenario(port: int) -> None:
        async with sending(f"http://127.0.0.1:{port}/v1") as sender:
            for _ in range(3):
                order = make_order({"model": "public", "messages": "x" * size})
                assert b"mine" in await body_from(sender, order)
                time.sleep(0.2)  # nothing is handed over meanwhile

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as threads:
        listening.settimeout(10)
        serving = threads.submit(_answers_twice, listening, 3)
        asyncio.run(scenario(listening.getsockname()[1]))
        serving.result(10)


def test_a_server_may_say_that_one_should_go_on(serving, sending, make_order, body_from) -> None:
    async def answering(visit: Any) -> None:
        visit.writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        visit.answer()

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            for _ in range(2):
                assert await body_from(sender, make_order()) == b'{"choices":[{}]}'
            assert server.connections == 1

    asyncio.run(scenario())


def test_an_answer_without_a_length_ends_with_its_connection(serving, sending, make_order, body_from) -> None:
    async def answering(visit: Any) -> None:
        visit.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + ANSWER)
        visit.writer.close()

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            for connection in (1, 2):
                assert await body_from(sender, make_order()) == ANSWER
                assert server.connections == connection

    asyncio.run(scenario())


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nb", b"a\rb"])
def test_no_header_becomes_two(serving, sending, make_order, body_from, value) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base) as sender:
            with pytest.raises(InvalidRequest):
                await body_from(sender, make_order(headers=[(b"openai-beta", value)]))
            assert sender.in_flight("up") == 0
            assert not server.visits

    asyncio.run(scenario())


def test_an_upload_may_take_longer_than_the_first_byte(sending, make_order, body_from) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await asyncio.sleep(1)  # by then every buffer between us is full
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 26\r\n\r\n" + ANSWER)
        await reader.read()
        writer.close()

    async def scenario() -> None:
        listening = await asyncio.start_server(slow, "127.0.0.1", 0, limit=1 << 16)
        port = listening.sockets[0].getsockname()[1]
        async with listening, sending(f"http://127.0.0.1:{port}/v1", first_byte_timeout=0.5) as sender:
            assert await body_from(sender, make_order({"model": "public", "messages": "x" * (24 << 20)})) == ANSWER
            await sender.close()
            await asyncio.sleep(0.1)

    asyncio.run(scenario())


def test_sockets_send_at_once(serving) -> None:
    async def answering(visit: Any) -> None:
        visit.answer(b"x", content_length="2")
        await visit.left()

    async def scenario() -> None:
        async with serving(answering) as server:
            url = URL(server.base)
            session = Session(Upstream(base_url=server.base), url.origin(), None)
            response = await session.send("POST", url, [], b"x")
            assert response.connection is not None
            transport = response.connection.transport
            assert transport is not None
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            response.close()
            await session.close()

    asyncio.run(scenario())


# ------------------------------------------------------------ packed answers


def _zstd(data: bytes) -> bytes:
    zstd = pytest.importorskip("backports.zstd")
    return zstd.compress(data)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", _zstd)])
def test_an_answer_that_comes_packed_is_unpacked(serving, sending, make_order, encoding, pack, make_target) -> None:
    async def answering(visit: Any) -> None:
        assert visit.headers["accept-encoding"] == "identity"
        visit.answer(pack(ANSWER), content_encoding=encoding)

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            async with sender.send(make_order(), make_target()) as answer:
                headers = dict(answer.headers)
                assert b"".join([chunk async for chunk in answer.chunks()]) == ANSWER
            assert b"content-encoding" not in headers
            assert headers.get(b"content-length", str(len(ANSWER)).encode()) == str(len(ANSWER)).encode()

    asyncio.run(scenario())


@pytest.mark.parametrize("encoding", ["compress", "x-unknown", "gzip, gzip"])
def test_an_answer_that_cannot_be_unpacked_is_refused(serving, sending, make_order, body_from, encoding) -> None:
    async def answering(visit: Any) -> None:
        visit.answer(content_encoding=encoding)

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            with pytest.raises(Failure) as failure:
                await body_from(sender, make_order())
            assert failure.value.cause == "refused"

    asyncio.run(scenario())


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_an_answer_that_only_says_that_it_is_packed_is_an_error(serving, sending, make_order, body_from, encoding) -> None:
    async def answering(visit: Any) -> None:
        visit.answer(content_encoding=encoding)

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            with pytest.raises(Failure):
                await body_from(sender, make_order())

    asyncio.run(scenario())


# ------------------------------------------------------------ TLS


def _openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Path:
    """A CA of our own, ``ca.pem``, and a certificate by it for 127.0.0.1, ``server.pem`` with ``server.key``."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2", folder=folder
    )
    _openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server", folder=folder)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    _openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.pem", folder=folder)
    return folder


@pytest.fixture
def tls(certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    return context


def test_a_certificate_is_trusted_by_its_ca_file_only(
    serving, sending, make_order, body_from, certificates, tls, caplog
) -> None:
    async def scenario() -> None:
        async with serving(ssl=tls) as server:
            base = server.base.replace("http:", "https:")
            async with sending(base, ca_file=str(certificates / "ca.pem")) as sender:
                for _ in range(2):
                    assert await body_from(sender, make_order())
                assert server.connections == 1
            async with sending(base) as sender:
                with pytest.raises(Failure) as failure:
                    await body_from(sender, make_order())
                assert failure.value.cause == "not_begun"
            assert len(server.visits) == 2

    asyncio.run(scenario())
    assert "certificate is not trusted" in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_a_trusted_certificate_of_another_host_is_refused(
    serving, sending, make_order, body_from, certificates, tls, caplog
) -> None:
    async def scenario() -> None:
        async with serving(ssl=tls) as server:
            async with sending(f"https://localhost:{server.port}/v1", ca_file=str(certificates / "ca.pem")) as sender:
                with pytest.raises(Failure) as failure:
                    await body_from(sender, make_order())
            assert failure.value.cause == "not_begun"
            assert not server.visits

    asyncio.run(scenario())
    assert "another host's" in caplog.text
    assert "localhost" not in caplog.text


def test_no_request_is_sent_in_the_clear_to_a_server_without_tls(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base.replace("http:", "https:"), connect_timeout=0.5) as sender:
            with pytest.raises(Failure) as failure:
                await body_from(sender, make_order())
            assert failure.value.cause == "not_begun"
            assert not server.visits

    asyncio.run(scenario())


def test_a_server_that_never_finishes_its_greeting_is_given_up(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening, sending(f"https://127.0.0.1:{port}/v1", connect_timeout=0.3) as sender:
            with pytest.raises(Failure) as failure:
                await body_from(sender, make_order())
            assert failure.value.cause == "not_begun"
            assert isinstance(failure.value.error, UpstreamTimeout)
            await asyncio.sleep(0.1)

    asyncio.run(scenario())


def test_a_ca_file_that_holds_no_certificate_is_refused_at_once(tmp_path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigError, match="ca_file"):
            tls_context(str(tmp_path / name))


# ------------------------------------------------------------ proxies


def test_a_proxy_of_the_environment_is_not_used(serving, sending, make_order, body_from, monkeypatch) -> None:
    async def scenario() -> None:
        async with serving() as proxy, serving() as server:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            async with sending(server.base) as sender:
                await body_from(sender, make_order())
            assert len(server.visits) == 1
            assert not proxy.connections

    asyncio.run(scenario())


def test_a_configured_proxy_is_used(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async with serving() as proxy:
            async with sending("http://upstream.invalid/v1", proxy=f"http://127.0.0.1:{proxy.port}") as sender:
                await body_from(sender, make_order())
            assert proxy.visits[0].line == "POST http://upstream.invalid/v1/chat/completions HTTP/1.1"

    asyncio.run(scenario())


def test_to_an_encrypted_upstream_a_proxy_is_a_tunnel(
    serving, sending, make_order, body_from, certificates, tls, monkeypatch
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)

    async def scenario() -> None:
        async with serving(ssl=tls) as server:

            async def tunnel(visit: Any) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                visit.writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                await asyncio.gather(_copy(visit.reader, writer), _copy(reader, visit.writer))

            async with (
                serving(tunnel) as proxy,
                sending(
                    server.base.replace("http:", "https:"),
                    ca_file=str(certificates / "ca.pem"),
                    proxy=f"http://name:word@127.0.0.1:{proxy.port}",
                    api_key_env="SOME_KEY",
                ) as sender,
            ):
                await body_from(sender, make_order())
                assert proxy.visits[0].line == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
                assert proxy.visits[0].headers["proxy-authorization"].startswith("Basic ")
                assert KEY not in str(proxy.visits[0].headers)
                assert "proxy-authorization" not in server.visits[0].headers
                assert server.visits[0].headers["authorization"] == f"Bearer {KEY}"

    asyncio.run(scenario())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


def test_a_proxy_that_refuses_has_not_begun_the_request(serving, sending, make_order, body_from, caplog) -> None:
    async def refusing(visit: Any) -> None:
        visit.answer(b"", "407 Proxy Authentication Required")

    async def scenario() -> None:
        async with serving(refusing) as proxy:
            async with sending("https://upstream.invalid/v1", proxy=f"http://127.0.0.1:{proxy.port}") as sender:
                with pytest.raises(Failure) as failure:
                    await body_from(sender, make_order())
            assert failure.value.cause == "not_begun"

    asyncio.run(scenario())
    assert "407" in caplog.text
    assert "invalid" not in caplog.text
