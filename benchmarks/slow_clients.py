"""What slow clients, silent ones and those who leave all at once do to the others, and to the server.

    python benchmarks/slow_clients.py [--slow 400] [--streams 1000]

A third of the slow ones sends headers a line a second, a third a body a byte a second, and a third asks for much and reads
nothing; the same again by TLS. It is noted when the server closes each, and what a client beside them sees, who asks 50 times
a second. Then so many streams are opened that say nothing, and are all aborted at once. It takes about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil
import uvloop
from msgspec import Struct, structs
from support.asking import Once, Question, at_rate, client, quantile
from support.peers import base_of, gateway, mock_upstream
from support.watching import Look, look

CORES = sorted(os.sched_getaffinity(0))[-2:]
CONFIG = """
[server]
max_body = "8MiB"
{tls}
[upstreams.mock]
base_url = "http://127.0.0.1:{port}/v1"
models = {{ mock = {{}} }}
[upstreams.idle]
base_url = "http://127.0.0.1:{port}/idle/v1"
models = {{ idle = {{}} }}
idle_timeout = 3600
first_byte_timeout = 3600
"""
KINDS = {
    "headers": b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n",
    "bodies": b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{",
    "readers": b"GET /schema/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2,
}
LIMITS = {"headers": 5, "bodies": 10, "readers": 30}
"""Seconds in which each kind is to be closed."""
DRIPS = {"headers": b"a: b\r\n", "bodies": b"x"}
LONGEST = 40.0


class Slow:
    """Slow clients of one server, in a thread of their own."""

    def __init__(self, pid: int, port: int, context: ssl.SSLContext | None) -> None:
        self._server = psutil.Process(pid)
        self._port = port
        self._context = context
        self._poll = select.epoll()
        self._open: dict[int, tuple[str, socket.socket, float]] = {}
        self.lasted: dict[str, list[float]] = {kind: [] for kind in KINDS}

    def run(self, count: int) -> None:
        for number in range(count):
            self._connect(tuple(KINDS)[number % len(KINDS)])
        began = drip = time.monotonic()
        while self._open and time.monotonic() - began < LONGEST:
            for number, _ in self._poll.poll(0.2):
                self._close(number)
            if time.monotonic() - drip > 1:
                drip = time.monotonic()
                self._drip()
                self._look()

    def _connect(self, kind: str) -> None:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(20)
        raw.connect(("127.0.0.1", self._port))
        near = raw if self._context is None else self._context.wrap_socket(raw, server_hostname="localhost")
        near.sendall(KINDS[kind])
        self._open[near.fileno()] = kind, near, time.monotonic()
        if kind != "readers":
            self._poll.register(near.fileno(), select.EPOLLIN | select.EPOLLRDHUP)

    def _drip(self) -> None:
        for number, (kind, near, _) in tuple(self._open.items()):
            try:
                near.sendall(DRIPS.get(kind, b""))
            except OSError:
                self._close(number)

    def _look(self) -> None:
        """Who reads nothing is not told of its end: ask the system what the server has still open."""
        there = {found.raddr.port for found in self._server.net_connections("tcp") if found.raddr}
        for number, (kind, near, _) in tuple(self._open.items()):
            if kind == "readers" and near.getsockname()[1] not in there:
                self._close(number)

    def _close(self, number: int) -> None:
        kind, near, began = self._open[number]
        if isinstance(near, ssl.SSLSocket) and kind != "readers" and _only_a_ticket(near):
            return
        del self._open[number]
        if kind != "readers":
            self._poll.unregister(number)
        self.lasted[kind].append(time.monotonic() - began)
        near.close()

    @property
    def left(self) -> int:
        return len(self._open)


def _only_a_ticket(near: ssl.SSLSocket) -> bool:
    """What a server sends behind the handshake is nothing to read."""
    near.settimeout(0.0)
    try:
        near.recv(1)
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False
    finally:
        near.settimeout(20)
    return False


class Before(Struct, frozen=True):
    """A server when nobody is slow."""

    pid: int
    origin: str
    once: Once
    look: Look
    latency: float


async def p99(once: Once, seconds: float) -> float:
    """Milliseconds."""
    return quantile(await at_rate(once, 50, seconds), 0.99) * 1e3


async def slow(session: aiohttp.ClientSession, before: Before, port: int, context: ssl.SSLContext | None, count: int) -> None:
    clients = Slow(before.pid, port, context)
    running = asyncio.create_task(asyncio.to_thread(clients.run, count))
    await asyncio.sleep(2)
    during = await p99(before.once, 10)
    await running
    way = "TLS" if context else "TCP"
    for kind, lasted in clients.lasted.items():
        closed = f"closed after {statistics.median(lasted):4.1f} s, at most {max(lasted):4.1f} s" if lasted else "none closed"
        print(f"{way}  slow {kind:8} {len(lasted):4} {closed} (limit {LIMITS[kind]} s)", flush=True)
    print(f"{way}  still open {clients.left}; others' p99 {before.latency:.1f} ms before, {during:.1f} ms meanwhile")
    show(f"{way}  afterwards", before.look, await look(session, before.pid, before.origin, {}))


async def streams(session: aiohttp.ClientSession, before: Before, port: int, count: int) -> None:
    question = structs.replace(Question(base_of(port)), fields={"model": "idle", "stream": True})

    async def opened() -> aiohttp.ClientResponse:
        answer = await question.sent(session).__aenter__()
        await answer.content.readuntil(b"\n\n")
        return answer

    silent: list[aiohttp.ClientResponse] = []
    for _ in range(0, count, 50):
        silent += await asyncio.gather(*(opened() for _ in range(min(50, count - len(silent)))))
    during = await p99(before.once, 4)
    show(f"{count} silent streams", before.look, await look(session, before.pid, before.origin, {}))
    print(f"others' p99 {before.latency:.1f} ms before, {during:.1f} ms meanwhile")
    began = time.monotonic()
    for stream in silent:
        stream.close()
    while (now := await look(session, before.pid, before.origin, {})).in_flight and time.monotonic() - began < 20:
        await asyncio.sleep(0.02)
    print(f"all aborted at once: let go after {time.monotonic() - began:.2f} s")
    await asyncio.sleep(2)
    show("afterwards", before.look, await look(session, before.pid, before.origin, {}))
    if now.in_flight:
        print(f"{now.in_flight} are still in flight")


def show(when: str, before: Look, now: Look) -> None:
    print(
        f"{when}: own memory {before.own:.1f} → {now.own:.1f} MB, descriptors {before.descriptors} → {now.descriptors}, "
        f"tasks {before.tasks} → {now.tasks}",
        flush=True,
    )


async def at_rest(session: aiohttp.ClientSession, pid: int, base: str) -> Before:
    once = structs.replace(Question(base), fields={}).asked(session)
    for _ in range(50):
        await once()
    latency = await p99(once, 4)
    origin = base.removesuffix("/v1")
    return Before(pid, origin, once, await look(session, pid, origin, {}), latency)


async def measure(plain: tuple[int, int], encrypted: tuple[int, int], cert: str, options: argparse.Namespace) -> None:
    context = ssl.create_default_context(cafile=cert)
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with client() as session, aiohttp.ClientSession(connector=connector) as by_tls:
        first = await at_rest(session, plain[0], base_of(plain[1]))
        second = await at_rest(by_tls, encrypted[0], f"https://localhost:{encrypted[1]}/v1")
        await asyncio.gather(
            slow(session, first, plain[1], None, options.slow), slow(by_tls, second, encrypted[1], context, options.slow)
        )
        await streams(session, first, plain[1], options.streams)


def certificate(folder: Path) -> tuple[str, str]:
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *new, *name], check=True, capture_output=True)
    return cert, key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slow", type=int, default=400)
    parser.add_argument("--streams", type=int, default=1000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {CORES[1]})
    with tempfile.TemporaryDirectory() as name, mock_upstream(CORES[1], 100) as upstream:
        cert, key = certificate(Path(name))
        tls = f'tls_cert = "{cert}"\ntls_key = "{key}"'
        with (
            gateway(CONFIG.format(port=upstream, tls=""), CORES[0]) as plain,
            gateway(CONFIG.format(port=upstream, tls=tls), CORES[0]) as encrypted,
        ):
            uvloop.run(measure(plain, encrypted, cert, options))


if __name__ == "__main__":
    main()
