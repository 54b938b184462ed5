"""What two servers could read in two ways is read in none: each of these gets a 400 and a closed connection."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from openai_compat.http.bounds import Limits
from openai_compat.http.guard import GuardedProtocol
from openai_compat.http.server import listen, uvicorn_config

HOST = b"Host: localhost\r\n"
POST = b"POST /v1/things HTTP/1.1\r\n" + HOST
GET = b"GET /v1/things HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Hasty(GuardedProtocol):
    limits = Limits(header_time=2.0, body_gap=0.4, body_window=0.8)


class Echo:
    """Tells what it was asked, once the body is there."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        self.asked.append(scope["path"])
        told = {"path": scope["path"], "size": size, "headers": [name.decode() for name, _ in scope["headers"]]}
        body = json.dumps(told).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def echo() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def address(echo: Echo) -> Iterator[tuple[str, int]]:
    config = uvicorn_config(echo, grace=5, protocol=Hasty)
    config.lifespan = "off"
    listener, server = listen("127.0.0.1", 0), uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join()


@pytest.fixture
def connection(address) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def answer(connection: socket.socket) -> tuple[int, Any]:
    with connection.makefile("rb") as reader:
        return read_answer(reader)


def read_answer(reader: Any) -> tuple[int, Any]:
    status = int(reader.readline().split()[1])
    length = 0
    while line := reader.readline().strip().lower():
        name, _, value = line.partition(b":")
        length = int(value) if name == b"content-length" else length
    return status, json.loads(reader.read(length))


def chunks(body: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n0\r\n%s\r\n" % (len(body), extension, body, trailer)


HEADS = {
    "a length and chunks": POST + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n" + chunks(b"abc"),
    "chunks and a length": POST + CHUNKED + b"Content-Length: 3\r\n\r\n" + chunks(b"abc"),
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a length that overflows": POST + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "a length with a gap": POST + b"Content-Length: 0 3\r\n\r\nabc",
    "chunks twice": POST + CHUNKED + CHUNKED + b"\r\n" + chunks(b"abc"),
    "chunks, then not": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + chunks(b"abc"),
    "chunks first": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + chunks(b"abc"),
    "packed chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks(b"abc"),
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + chunks(b"abc"),
    "a hidden transfer encoding": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + chunks(b"abc"),
    "a folded header": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + chunks(b"abc"),
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a bare carriage return": GET + b"X: a\rb\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "a zero byte": GET + b"X: a\x00b\r\n\r\n",
    "a name that is no token": GET + b"X(a): b\r\n\r\n",
    "a name of 8 bits": GET + b"X\xe9: b\r\n\r\n",
    "no name": GET + b": b\r\n\r\n",
    "a negative chunk": POST + CHUNKED + b"\r\n-1\r\nabc\r\n0\r\n\r\n",
    "an endless chunk": POST + CHUNKED + b"\r\nfffffffffffffffff\r\nabc",
    "a chunk that is longer than it says": POST + CHUNKED + b"\r\n3\r\nabcXX0\r\n\r\n",
    "a line feed in what is said about a chunk": POST + CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/0.9 by name": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + chunks(b"abc"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "an empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "two hosts": GET + b"Host: other\r\n\r\n",
    "the same host twice": GET + HOST + b"\r\n",
    "two hosts in one": b"GET / HTTP/1.1\r\nHost: localhost, other\r\n\r\n",
    "a host that is a path (Starlette CVE-2026-48710)": b"GET / HTTP/1.1\r\nHost: localhost/health/live?\r\n\r\n",
    "a host with a name before it": b"GET / HTTP/1.1\r\nHost: me@localhost\r\n\r\n",
    "a host with a space": b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n",
    "a port that is none": b"GET / HTTP/1.1\r\nHost: localhost:8o\r\n\r\n",
    "another host in the address": b"GET http://other/health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "a name in the address": b"GET http://me@localhost/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "another scheme": b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /health/live#/v1/models HTTP/1.1\r\n" + HOST + b"\r\n",
    "8 bits in the path": b"GET /v1/\xe9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control character in the path": b"GET /v1/\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("request_bytes", HEADS.values(), ids=HEADS)
def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(connection, request_bytes: bytes) -> None:
    connection.sendall(request_bytes)
    status, body = answer(connection)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET + b"\r\n",
        b"GET /v1/things HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        b"GET /v1/things HTTP/1.1\r\nhost: my_model.example.:80\r\n\r\n",
        b"GET http://LOCALHOST/v1/things?a=b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /v1/things HTTP/1.0\r\n\r\n",
        POST + b"Content-Length: 3\r\n\r\nabc",
        POST + b"transfer-encoding: Chunked \r\n\r\n" + chunks(b"abc"),
        POST + CHUNKED + b"\r\n" + chunks(b"abc", b";name=value"),
    ],
)
def test_what_is_unusual_and_clear_is_answered(connection, request_bytes: bytes) -> None:
    connection.sendall(request_bytes)
    status, told = answer(connection)
    assert (status, told["path"]) == (200, "/v1/things")
    assert told["size"] == (3 if request_bytes.startswith(b"POST") else 0)


def test_what_stands_behind_a_body_is_no_header(connection) -> None:
    connection.sendall(POST + CHUNKED + b"\r\n" + chunks(b"abc", trailer=b"X-Api-Key: stolen\r\nX-Request-Id: mine\r\n"))
    assert answer(connection)[1]["headers"] == ["host", "transfer-encoding"]


@pytest.mark.parametrize("trailer", [b"X-T: v\r\n" * 200, b"X-T: " + b"v" * 40_000 + b"\r\n"])
def test_what_stands_behind_a_body_is_limited_as_headers_are(connection, trailer: bytes) -> None:
    connection.sendall(POST + CHUNKED + b"\r\n" + chunks(b"abc", trailer=trailer))
    assert answer(connection)[0] == 431


def test_a_body_is_more_than_what_is_said_about_its_chunks(connection) -> None:
    connection.sendall(POST + CHUNKED + b"\r\n")
    with contextlib.suppress(OSError):
        for _ in range(200):
            connection.sendall(b"1;" + b"x" * 10_000 + b"\r\na\r\n")
    assert answer(connection)[0] == 400


def test_a_chunk_of_one_byte_after_another_is_a_body(connection) -> None:
    connection.sendall(POST + CHUNKED + b"\r\n" + b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n")
    assert answer(connection)[1]["size"] == 100_000


def test_large_bodies_right_behind_one_another_are_bodies(connection) -> None:
    size = 90_000
    one = POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
    threading.Thread(target=connection.sendall, args=(one * 12,)).start()
    with connection.makefile("rb") as reader:
        assert [read_answer(reader)[1]["size"] for _ in range(12)] == [size] * 12


def test_a_thousand_requests_at_once_are_too_many(connection, echo: Echo) -> None:
    before = len(echo.asked)
    with contextlib.suppress(OSError):
        connection.sendall((GET + b"\r\n") * 1000)
        while connection.recv(65_536):
            pass
    assert len(echo.asked) - before <= 65


def test_forty_at_once_are_answered(connection) -> None:
    connection.sendall((GET + b"\r\n") * 40)
    with connection.makefile("rb") as reader:
        assert [read_answer(reader)[0] for _ in range(40)] == [200] * 40


def test_a_body_that_drips_is_refused_although_bytes_keep_coming(connection) -> None:
    connection.sendall(POST + b"Content-Length: 1000\r\n\r\n")
    stop = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.1):
                connection.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    status, _ = answer(connection)
    stop.set()
    dripping.join()
    assert status == 408


def test_a_body_that_comes_fast_enough_is_read_however_long_it_takes(connection) -> None:
    connection.sendall(POST + b"Content-Length: 8000\r\n\r\n")
    pause = threading.Event()
    for _ in range(16):
        connection.sendall(b"x" * 500)
        pause.wait(0.1)
    assert answer(connection)[1]["size"] == 8000


def test_the_refusal_of_a_request_is_never_the_answer_to_the_one_before_it(connection) -> None:
    """Behind a proxy they are two clients'."""
    good = POST + b"Content-Length: 3\r\n\r\nabc"
    connection.sendall(good + POST + CHUNKED + b"\r\n3\r\nabc\r\n0\r\nTrai\xc2ler: x\r\n\r\n")
    with connection.makefile("rb") as reader:
        assert not reader.read().startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("first", [b"", POST + b"Content-Length: 3\r\n\r\nabc"])
def test_an_address_that_cannot_be_taken_apart_is_refused(connection, first: bytes) -> None:
    with connection.makefile("rb") as reader:
        if first:
            connection.sendall(first)
            assert read_answer(reader)[0] == 200
        connection.sendall(b"GET http://~/x? HTTP/1.0\r\n\r\n")
        assert read_answer(reader)[0] == 400
        assert reader.read() == b""
