"""A proxy between clients and the server under test that changes nothing and keeps what went by.

So each answer and each event of every client can be checked, also of those that show their callers only parts.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from kit.wire import Message, take

HEAD = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")
HOST = re.compile(rb"^host:[^\r\n]*", re.IGNORECASE | re.MULTILINE)
PATIENCE = 30.0
"""Seconds until a connection to the server must stand."""
READ = 65536


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What was asked, and what came back; no answer where the client left before, or the server closed."""

    request: Message
    answer: Message | None


class Connection:
    """One connection of a client, and the one behind it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.asked, self.answered = bytearray(), bytearray()
        self.ended = False
        self._waiting: list[Message] = []

    @property
    def busy(self) -> bool:
        """Something was asked, and the answer is still coming."""
        return not self.ended and bool(self.asked or self.answered or self._waiting)

    def exchanges(self, *, ended: bool) -> Iterator[Exchange]:
        """Those that ended since this was last asked; all of them where the connection has ``ended``."""
        while found := take(bytes(self.asked)):
            self._waiting.append(found[0])
            del self.asked[: found[1]]
        while self._waiting and (answer := take(bytes(self.answered), asked=self._waiting[0].method, ended=ended)):
            yield Exchange(request=self._waiting.pop(0), answer=answer[0])
            del self.answered[: answer[1]]
        if ended:
            yield from (Exchange(request=request, answer=None) for request in self._waiting)
            self._waiting.clear()


class Recorder:
    """Listens on a port of its own until it is closed. ``headers`` are added to each request, ahead of the client's."""

    def __init__(self, target: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(target)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._named = parts.netloc.rpartition("@")[2].encode()
        self._added = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def exchanges(self, patience: float = 1.0) -> list[Exchange]:
        """All that ended since this was last asked. Some clients leave the end of a stream unread: it is waited for."""
        found: list[Exchange] = []
        deadline = time.monotonic() + patience
        while True:
            found += self._ended()
            if not any(connection.busy for connection in self._connections) or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def _ended(self) -> list[Exchange]:
        with self._lock:
            current = [(connection, connection.ended) for connection in self._connections]
        found = [exchange for connection, ended in current for exchange in connection.exchanges(ended=ended)]
        with self._lock:
            for connection in (connection for connection, ended in current if ended):
                self._connections.remove(connection)
        return found

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((self._host, self._port), PATIENCE)
            server.settimeout(None)
            server = server if self._tls is None else self._tls.wrap_socket(server, server_hostname=self._host)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client, server)
        with self._lock:
            self._connections.append(connection)
        threading.Thread(target=self._ask, args=(connection,), daemon=True).start()
        self._answer(connection)

    def _ask(self, connection: Connection) -> None:
        """A client that leaves is gone for the server, too."""
        with suppress(OSError):
            while data := connection.client.recv(READ):
                connection.asked += data
                connection.server.sendall(self._addressed(data))
        _shut(connection.server)

    def _answer(self, connection: Connection) -> None:
        with suppress(OSError):
            while data := connection.server.recv(READ):
                connection.answered += data  # before the client has it: who asks for what went by must find it
                connection.client.sendall(data)
        connection.ended = True
        _shut(connection.client)
        connection.client.close()
        connection.server.close()

    def _addressed(self, data: bytes) -> bytes:
        """A request's head comes in one piece at the begin of what is read: clients wait for an answer before the next one."""
        head = HEAD.match(data)
        if head is None:
            return data
        rest = HOST.sub(b"Host: " + self._named, data[head.end() :], count=1)
        return head.group() + self._added + rest


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
