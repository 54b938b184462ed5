"""A real server on a loopback port: its limits on headers, slow senders and stopped readers, and how it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn
from litestar import Litestar, Request, get, post
from litestar.response import Stream

from openai_compat.http.bounds import Limits
from openai_compat.http.errors import exception_handlers
from openai_compat.http.guard import GuardedProtocol
from openai_compat.http.server import ListenError, base_url, listen, uvicorn_config
from openai_compat.metrics import Metrics
from openai_compat.telemetry import Telemetry


class Hasty(GuardedProtocol):
    limits = Limits(header_time=0.3, body_gap=0.3, write_stall=0.3)


@post("/length")
async def length(request: Request) -> dict:
    return {"length": len(await request.body())}


@get("/slow")
async def slow() -> str:
    await asyncio.sleep(0.8)
    return "done"


@post("/late")
async def late(request: Request) -> dict:
    """Reads its body only after a while, as a busy server does."""
    await asyncio.sleep(0.8)
    return {"length": len(await request.body())}


@get("/pieces")
async def in_pieces() -> Stream:
    """Without a length."""

    async def pieces():
        yield b"one "
        await asyncio.sleep(0.01)
        yield b"two"

    return Stream(pieces())


class Flood:
    """Sends without end until the client has gone."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def route(self):
        @get("/flood")
        async def flood() -> Stream:
            async def pieces():
                try:
                    while True:
                        yield b"x" * 65536
                        await asyncio.sleep(0)
                finally:
                    self.ended.set()

            return Stream(pieces())

        return flood


@pytest.fixture(scope="module")
def flood() -> Flood:
    return Flood()


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def server(flood, metrics):
    app = Litestar(
        [length, slow, late, in_pieces, flood.route()],
        exception_handlers=exception_handlers,
        logging_config=None,
        request_max_body_size=None,
    )
    app.asgi_handler = Telemetry(app.asgi_handler, metrics=metrics)
    listener = listen("127.0.0.1", 0)
    uvicorn_server = uvicorn.Server(uvicorn_config(app, grace=5, protocol=Hasty))
    thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    uvicorn_server.should_exit = True
    thread.join()


@pytest.fixture
def connection(server):
    with socket.create_connection(server, timeout=20) as connection:
        yield connection


def read_answer(connection) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer with a content-length."""
    with connection.makefile("rb") as reader:
        return _read_answer(reader)


def _read_answer(reader) -> tuple[int, dict[str, str], bytes]:
    status = int(reader.readline().split()[1])
    headers = {}
    while line := reader.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return status, headers, reader.read(int(headers["content-length"]))


def assert_refused(connection, status: int, code: str | None) -> None:
    seen, headers, body = read_answer(connection)
    assert seen == status
    assert json.loads(body)["error"]["code"] == code
    assert json.loads(body)["error"]["message"]
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")
    assert connection.recv(1) == b""


def post_head(length: int, path: str = "/length", extra: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{extra}\r\n".encode()


def test_an_ordinary_request_is_answered_and_the_connection_kept(connection) -> None:
    for _ in range(3):
        connection.sendall(post_head(3) + b"abc")
        status, headers, body = read_answer(connection)
        assert (status, body) == (201, b'{"length":3}')
        assert "server" not in headers


def test_100_headers_pass_and_101_do_not(connection) -> None:
    fields = "".join(f"x-{i}: 1\r\n" for i in range(98))
    connection.sendall(post_head(0, extra=fields))
    assert read_answer(connection)[0] == 201
    connection.sendall(post_head(0, extra=fields + "x-last: 1\r\n"))
    assert_refused(connection, 431, "headers_too_large")


def test_one_huge_header_is_refused_before_it_ends(connection) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 40_000)
    assert_refused(connection, 431, "headers_too_large")


def test_a_huge_url_is_refused(connection) -> None:
    connection.sendall(b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert_refused(connection, 431, "headers_too_large")


def test_a_large_body_in_one_piece_with_its_headers_is_no_header(connection) -> None:
    connection.sendall(post_head(200_000) + b"x" * 200_000)
    assert read_answer(connection)[2] == b'{"length":200000}'


def test_headers_that_do_not_end_are_refused(connection) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\nhost: loc")
    assert_refused(connection, 408, "request_timeout")


def test_headers_that_trickle_are_refused_although_bytes_keep_coming(connection) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(OSError):
        for _ in range(60):
            connection.sendall(b"a: b\r\n")
            time.sleep(0.05)
    status, _, _ = read_answer(connection)
    assert status == 408


def test_a_connection_that_says_nothing_is_closed_without_a_word(connection) -> None:
    assert connection.recv(100) == b""


def test_blank_lines_do_not_keep_a_connection(connection) -> None:
    connection.sendall(b"\r\n")
    assert connection.recv(100) == b""


@contextlib.contextmanager
def resting_for(seconds: float):
    """The address of a server that keeps a connection so long."""
    app = Litestar([length, slow], logging_config=None)
    config = uvicorn_config(app, grace=5, protocol=Hasty)
    config.timeout_keep_alive = seconds
    listener, other = listen("127.0.0.1", 0), uvicorn.Server(config)
    thread = threading.Thread(target=other.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        other.should_exit = True
        thread.join()


def test_a_kept_connection_is_closed_when_nothing_was_asked_for_a_while_after_the_last_answer() -> None:
    with resting_for(3.0) as address, socket.create_connection(address, timeout=20) as connection:
        for pause in (0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5):
            time.sleep(pause)
            asked = time.monotonic()
            connection.sendall(post_head(3) + b"abc")
            assert read_answer(connection)[0] == 201
        assert connection.recv(1) == b""
        assert 2.9 <= time.monotonic() - asked < 20


@pytest.mark.parametrize(("version", "body"), [("1.0", b"one two"), ("1.1", b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")])
def test_an_old_client_is_sent_no_chunks(connection, version, body) -> None:
    """A proxy of HTTP/1.0 would pass on what stands between them as a part of the answer."""
    connection.sendall(f"GET /pieces HTTP/{version}\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    with connection.makefile("rb") as reader:
        head, _, seen = reader.read().partition(b"\r\n\r\n")
    assert (b"chunked" in head.lower(), b"connection: close" in head.lower(), seen) == (version == "1.1", True, body)


def test_an_old_client_reads_an_answer_with_a_length_and_its_head_alone(server) -> None:
    for method, body in (("GET", b"done"), ("HEAD", b"")):
        with socket.create_connection(server, timeout=20) as connection, connection.makefile("rb") as reader:
            connection.sendall(f"{method} /slow HTTP/1.0\r\n\r\n".encode())
            head, _, seen = reader.read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 2" if method == "GET" else b"HTTP/1.1 ")
            assert seen == body


def test_a_connection_is_kept_while_an_answer_takes_longer_than_it_may_rest() -> None:
    with resting_for(0.6) as address, socket.create_connection(address, timeout=20) as connection:
        for _ in range(2):
            connection.sendall(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert read_answer(connection)[2] == b"done"
        assert connection.recv(1) == b""


def test_headers_that_do_not_end_are_refused_on_a_kept_connection_too(connection) -> None:
    connection.sendall(post_head(3) + b"abc")
    assert read_answer(connection)[0] == 201
    connection.sendall(b"GET / HTTP/1.1\r\nhost: loc")
    assert_refused(connection, 408, "request_timeout")


def test_a_body_that_stops_is_refused_and_counted_as_what_it_was(connection, metrics) -> None:
    connection.sendall(post_head(10) + b"abc")
    assert_refused(connection, 408, "request_timeout")
    labels = {"route": "/length", "status": "408", "model": ""}
    deadline = time.monotonic() + 20
    while not metrics.registry.get_sample_value("openai_compat_requests_total", labels):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_chunked_body_that_stops_is_refused(connection) -> None:
    connection.sendall(b"POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert_refused(connection, 408, "request_timeout")


def test_a_slow_body_that_keeps_coming_is_read(connection) -> None:
    connection.sendall(post_head(10))
    for _ in range(10):
        time.sleep(0.06)
        connection.sendall(b"x")
    assert read_answer(connection)[2] == b'{"length":10}'


def test_a_body_that_the_server_is_slow_to_read_is_not_the_clients_fault(connection) -> None:
    sender = threading.Thread(target=connection.sendall, args=(post_head(3_000_000, "/late") + b"x" * 3_000_000,))
    sender.start()
    assert read_answer(connection)[2] == b'{"length":3000000}'
    sender.join()


def test_a_client_that_waits_for_100_continue_is_not_timed_out(connection) -> None:
    connection.sendall(post_head(3, "/late", "expect: 100-continue\r\n"))
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    connection.sendall(b"abc")
    assert read_answer(connection)[2] == b'{"length":3}'


def test_an_answer_may_take_longer_than_the_limits(connection) -> None:
    connection.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n\r\n")
    assert read_answer(connection)[2] == b"done"


def test_a_pipelined_request_waits_its_turn(connection) -> None:
    connection.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n" + post_head(3) + b"abc")
    reader = connection.makefile("rb")
    assert reader.readline().startswith(b"HTTP/1.1 200")
    answer = iter(reader.readline, b"doneHTTP/1.1 201 Created\r\n")
    assert all(answer)


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_is_a_400(connection, head) -> None:
    connection.sendall(head)
    assert_refused(connection, 400, None)


def test_garbage_behind_a_request_does_not_get_into_its_answer(connection) -> None:
    connection.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\nNONSENSE\r\n\r\n")
    assert connection.recv(1000) == b""


def test_a_client_that_offers_http2_is_answered_in_http1(connection) -> None:
    offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    for piece in (b"abc", b"abcd"):
        head = post_head(len(piece), extra=offer)
        connection.sendall(head[:100])
        connection.sendall(head[100:] + piece[:1])
        connection.sendall(piece[1:])
        assert read_answer(connection)[2] == b'{"length":%d}' % len(piece)


def test_a_websocket_is_answered_as_an_ordinary_request(connection) -> None:
    connection.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert read_answer(connection)[2] == b"done"


def test_nobody_is_connected_elsewhere(connection) -> None:
    connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
    assert_refused(connection, 400, None)


def test_a_reader_that_stops_is_cut_off(connection, flood) -> None:
    connection.sendall(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n")
    assert flood.ended.wait(20)


def test_a_port_in_use_is_one_clear_line() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^Port {port} on 127.0.0.1 is in use"):
            listen("127.0.0.1", port)


def test_an_unknown_host_is_one_clear_line() -> None:
    with pytest.raises(ListenError, match="no such host"):
        listen("300.0.0.1", 0)


def test_the_url_shown_can_be_used() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert base_url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
