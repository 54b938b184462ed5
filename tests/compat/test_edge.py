"""The installed server's edge: what strangers send, who is slow, who leaves, who comes in crowds, TLS, and proxies."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

HELLO = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
HOST = b"host: localhost\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"


def write(folder: Path, server: str = "") -> Path:
    path = folder / "config.toml"
    (folder / "nothing").mkdir(exist_ok=True)
    path.write_text(f'[server]\n{server}\n[models.echo]\nkind = "echo"\nsource = "{folder / "nothing"}"\n')
    return path


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Any]) -> Iterator[Any]:
    """A server with one model, and a proxy that it believes: this machine."""
    folder = tmp_path_factory.mktemp("edge")
    running = serve(write(folder, 'trusted_proxies = ["127.0.0.1"]'), folder)
    httpx2.post(f"{running.base_url}/chat/completions", json=HELLO, timeout=120).raise_for_status()
    yield running
    assert running.stop() == 0, running.log.read_text()


def address(server: Any) -> tuple[str, int]:
    host, _, port = server.origin.partition("://")[2].rpartition(":")
    return host, int(port)


@contextlib.contextmanager
def connected(server: Any) -> Iterator[socket.socket]:
    with socket.create_connection(address(server), timeout=20) as connection:
        yield connection


def chat_head(*fields: bytes) -> bytes:
    return b"\r\n".join([b"POST /v1/chat/completions HTTP/1.1", b"host: localhost", *fields, b"", b""])


def status_of(connection: socket.socket) -> int:
    return int(connection.makefile("rb").readline().split()[1])


def post(server: Any, body: bytes, **headers: str) -> httpx2.Response:
    fields = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx2.post(f"{server.base_url}/chat/completions", content=body, headers=fields, timeout=60)


def assert_refused(answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


# ---------------------------------------------------------------- what strangers send


@pytest.mark.parametrize(
    "more",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"host: other\r\n\r\n",
        b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_request_that_two_servers_read_differently_is_refused_with_what_follows_it(edge, more: bytes) -> None:
    with connected(edge) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + more + GET)
        seen = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65_536):
                seen += piece
    assert seen.count(b"HTTP/1.1 ") == 1
    assert seen.startswith(b"HTTP/1.1 400 ")
    assert b'"invalid_request_error"' in seen


MANY = 100_000
BODIES = {
    "lists": b'{"model": "echo", "messages": ' + b"[" * MANY + b"]" * MANY + b"}",
    "lists in a field that nobody knows": b'{"model": "echo", "messages": [], "x": ' + b"[" * MANY + b"]" * MANY + b"}",
    "objects before the model": b'{"x": ' + b'{"a":' * MANY + b"1" + b"}" * MANY + b', "model": "echo"}',
    "a list without an end": b"[" * 5_000_000,
    "NaN": b'{"model": "echo", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
    "Infinity": b'{"model": "echo", "messages": [{"role": "user", "content": "hi"}], "temperature": -Infinity}',
    "a number beyond all": b'{"model": "echo", "messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}',
    "a number of megabytes": b'{"model": "echo", "messages": [], "seed": ' + b"9" * 5_000_000 + b"}",
    "half a surrogate": b'{"model": "echo", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "no UTF-8": b'{"model": "echo", "messages": [{"role": "user", "content": "\xff"}]}',
    "UTF-16": '{"model": "echo"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_json_that_is_none_or_too_much_is_a_bad_request(edge, body: bytes) -> None:
    assert_refused(post(edge, body), 400)


def test_of_two_fields_of_one_name_the_last_counts_for_everybody(edge) -> None:
    body = b'{"model": "none", "messages": [{"role": "user", "content": "hi"}], "model": "echo"}'
    assert post(edge, body).json()["model"] == "echo"


def test_a_packed_bomb_is_too_large_and_a_packed_pack_is_refused(edge) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    assert_refused(post(edge, bomb, content_encoding="gzip"), 413)
    assert_refused(post(edge, gzip.compress(bomb), content_encoding="gzip, gzip"), 415)


@pytest.mark.parametrize("path", ["//v1//models", "/v1%2fmodels"])
def test_a_path_is_the_same_in_each_of_its_spellings(edge, path: str) -> None:
    with connected(edge) as connection:
        connection.sendall(GET.replace(b"/v1/models", path.encode()))
        assert status_of(connection) == 200


@pytest.mark.parametrize(
    "path", ["/v1/../v1/models", "/v1/%2e%2e/etc/passwd", "/v1/media/..%2f..%2fetc%2fpasswd", "/v1/models%00"]
)
def test_no_path_leads_elsewhere(edge, path: str) -> None:
    with connected(edge) as connection:
        connection.sendall(GET.replace(b"/v1/models", path.encode()))
        assert status_of(connection) == 404


def test_the_log_is_one_line_a_request_whatever_its_path(edge) -> None:
    with connected(edge) as connection:
        connection.sendall(GET.replace(b"/v1/models", b"/v1/a%0d%0aforged%1b[31m"))
        assert status_of(connection) == 404
    time.sleep(0.1)
    lines = edge.log.read_text().splitlines()
    assert not [line for line in lines if line.startswith("forged") or "\x1b" in line]


# ---------------------------------------------------------------- who asks


def test_the_log_names_who_asked_a_trusted_proxy_and_answers_stay_as_they_are(tmp_path, start_server) -> None:
    server = start_server(write(tmp_path, 'log_format = "json"\ntrusted_proxies = ["127.0.0.1"]'))
    forged = {"x-forwarded-for": "1.1.1.1, 203.0.113.9", "x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
    plain = httpx2.get(f"{server.base_url}/models").json()
    assert httpx2.get(f"{server.base_url}/models", headers=forged).json() == plain
    time.sleep(0.1)
    clients = [json.loads(line).get("client") for line in server.log.read_text().splitlines() if '"client"' in line]
    assert clients == ["127.0.0.1", "203.0.113.9"]


# ---------------------------------------------------------------- who is slow, who leaves


@pytest.mark.slow
def test_slow_headers_and_bodies_are_closed_in_time_while_others_are_served(edge) -> None:
    kinds = {
        "headers": (b"GET / HTTP/1.1\r\n", b"a: b\r\n", 5),
        "body": (chat_head(b"content-length: 10000") + b"{", b" ", 10),
    }
    began = time.monotonic()
    open_ones = []
    for _ in range(60):
        for kind, (head, drip, _) in kinds.items():
            connection = socket.create_connection(address(edge), timeout=30)
            connection.sendall(head)
            open_ones.append((kind, connection, drip))
    lasted: dict[str, list[float]] = {"headers": [], "body": []}
    while open_ones and time.monotonic() - began < 40:
        time.sleep(0.5)
        assert httpx2.get(f"{edge.base_url}/models", timeout=20).status_code == 200
        open_ones = [one for one in open_ones if _drips_on(one, lasted, began)]
    assert not open_ones
    for kind, (_, _, limit) in kinds.items():
        assert min(lasted[kind]) > limit - 1
        assert max(lasted[kind]) < limit + 6  # the machine may be busy


def _drips_on(one: tuple[str, socket.socket, bytes], lasted: dict[str, list[float]], began: float) -> bool:
    kind, connection, drip = one
    try:
        connection.settimeout(0)
        connection.sendall(drip)
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    lasted[kind].append(time.monotonic() - began)
    connection.close()
    return False


@pytest.mark.slow
def test_a_reader_that_takes_nothing_is_closed_in_time(edge) -> None:
    process = psutil.Process(edge.process.pid)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address(edge))
        connection.sendall(b"GET /schema/openapi.json HTTP/1.1\r\n" + HOST + b"\r\n")
        near = connection.getsockname()[1]
        began = time.monotonic()
        wait_until(lambda: serves(process, near))
        while serves(process, near):
            assert time.monotonic() - began < 50
            time.sleep(0.5)
    assert time.monotonic() - began > 25


def serves(process: psutil.Process, port: int) -> bool:
    return any(found.raddr and found.raddr.port == port for found in process.net_connections("tcp"))


def metric(server: Any, name: str) -> float:
    text = httpx2.get(f"{server.origin}/metrics", timeout=20).text
    (found,) = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_streams_that_are_all_aborted_at_once_leave_nothing_behind(edge) -> None:
    body = json.dumps(
        {**HELLO, "stream": True, "messages": [{"role": "user", "content": "[[delay=0.5]] " + "hi " * 99}]}
    ).encode()
    process = psutil.Process(edge.process.pid)
    tasks, descriptors = metric(edge, "openai_compat_event_loop_tasks"), process.num_fds()
    streams = []
    for _ in range(100):
        connection = socket.create_connection(address(edge), timeout=20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        connection.sendall(chat_head(b"content-length: %d" % len(body)) + body)
        streams.append(connection)
    wait_until(lambda: metric(edge, "openai_compat_requests_in_flight") > 100)
    for connection in streams:
        connection.close()
    wait_until(lambda: metric(edge, "openai_compat_requests_in_flight") == 1)
    wait_until(lambda: metric(edge, "openai_compat_connections") <= 1)
    wait_until(lambda: metric(edge, "openai_compat_event_loop_tasks") <= tasks + 2)
    wait_until(lambda: process.num_fds() <= descriptors + 10)
    assert post(edge, json.dumps(HELLO).encode()).status_code == 200


# ---------------------------------------------------------------- crowds


def test_a_connection_too_many_is_told_so_and_the_others_are_served(tmp_path, start_server) -> None:
    server = start_server(write(tmp_path, "max_connections = 5"))
    with contextlib.ExitStack() as stack:
        inside = [stack.enter_context(connected(server)) for _ in range(5)]
        for connection in inside:
            connection.sendall(GET)
            assert status_of(connection) == 200
        began = time.monotonic()
        with connected(server) as outside:
            answer = b"".join(iter(lambda: outside.recv(4096), b"")).lower()
        assert time.monotonic() - began < 5
        assert answer.startswith(b"http/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert b'"overloaded"' in answer
        inside[0].sendall(GET)
        assert inside[0].recv(12) == b"HTTP/1.1 200"
    assert "server.max_connections" in server.log.read_text()


def test_a_request_too_many_is_told_so_before_its_body_and_lists_are_answered(tmp_path, start_server) -> None:
    server = start_server(write(tmp_path, "max_in_flight = 1"))
    with connected(server) as first, connected(server) as second:
        first.sendall(chat_head(b"content-length: 100") + b"{")
        wait_until(lambda: metric(server, "openai_compat_requests_in_flight") == 2)
        second.sendall(chat_head(b"content-length: 30000000"))
        assert status_of(second) == 503
        assert httpx2.get(f"{server.base_url}/models").status_code == 200
        assert httpx2.get(f"{server.origin}/health/ready").status_code == 200
        assert metric(server, "openai_compat_turned_away_total") == 1


# ---------------------------------------------------------------- TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", "-x509", *new, *name], check=True, capture_output=True)
    return cert, key


def test_by_tls_it_is_the_same_server_with_the_same_patience(tmp_path, certificate, start_server) -> None:
    cert, key = certificate
    server = start_server(write(tmp_path, f'tls_cert = "{cert}"\ntls_key = "{key}"'))
    context = ssl.create_default_context(cafile=cert)

    def opened() -> ssl.SSLSocket:
        return context.wrap_socket(socket.create_connection(address(server), timeout=30), server_hostname="localhost")

    with opened() as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        connection.sendall(GET)
        assert connection.recv(12) == b"HTTP/1.1 200"
    with opened() as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", b"\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"))
        assert connection.recv(12) == b"HTTP/1.1 400"
    with socket.create_connection(address(server), timeout=30) as silent:
        began = time.monotonic()
        assert _end_of(silent) == b""
        assert 3 < time.monotonic() - began < 15
    with socket.create_connection(address(server), timeout=30) as plain:
        plain.sendall(GET)
        assert b"HTTP/1.1 200" not in _end_of(plain)


def _end_of(connection: socket.socket) -> bytes:
    seen = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(4096):
            seen += piece
    return seen
