"""A connection's bytes: the same requests however they are cut, as another parser reads them, and no answer of 500 or above."""

from __future__ import annotations

import asyncio
import re
from functools import cache
from typing import Any

import h11
import httptools
import uvicorn
from uvicorn.server import ServerState

from openai_compat.http.guard import GuardedProtocol
from openai_compat.http.server import uvicorn_config

ROUNDS = 8
WHERE = re.compile(rb"^https?://[^/?]*", re.IGNORECASE)
Seen = list[tuple[str, bytes, bytes]]
"""Of each request the method, the target and the body."""


def fuzz(data: bytes) -> None:
    """The first byte is how long the pieces are."""
    size, stream = 1 + (data[0] if data else 0), data[1:]
    whole, answers = serve([stream])
    cut, _ = serve([stream[at : at + size] for at in range(0, len(stream), size)])
    shorter = min(len(whole), len(cut))
    assert whole[:shorter] == cut[:shorter]
    check_answers(answers)
    others = second_opinion(stream)
    shorter = min(len(whole), len(others))
    assert whole[:shorter] == others[:shorter]


class Wire(asyncio.Transport):
    """A socket that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("203.0.113.9", 5), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@cache
def config() -> uvicorn.Config:
    made = uvicorn_config(app, grace=1.0)  # type: ignore[arg-type]
    made.load()
    return made


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Notes a request that came whole."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    scope["state"]["seen"].append((scope["method"], plain(scope["raw_path"] + query_of(scope)), body))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def query_of(scope: Any) -> bytes:
    return b"?" + scope["query_string"] if scope["query_string"] else b""


def plain(target: bytes) -> bytes:
    """Without scheme and host, and without a query that holds nothing."""
    path, mark, query = WHERE.sub(b"", target).partition(b"?")
    return (path or b"/") + (mark + query if query else b"")


def serve(pieces: list[bytes]) -> tuple[Seen, bytes]:
    return asyncio.run(connection(pieces))


async def connection(pieces: list[bytes]) -> tuple[Seen, bytes]:
    seen: Seen = []
    wire = Wire()
    protocol = GuardedProtocol(config(), ServerState(), {"seen": seen}, asyncio.get_running_loop())
    protocol.connection_made(wire)
    for piece in pieces:
        if wire.is_closing():
            break
        protocol.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(ROUNDS * (1 + len(seen))):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    for _ in range(ROUNDS):
        await asyncio.sleep(0)
    return seen, wire.written


def check_answers(written: bytes) -> None:
    statuses: list[int] = []

    class Reader:
        def on_headers_complete(self) -> None:
            statuses.append(parser.get_status_code())

    parser = httptools.HttpResponseParser(Reader())
    parser.feed_data(written)
    assert all(status < 500 for status in statuses), statuses


def second_opinion(stream: bytes) -> Seen:
    """The requests that h11 reads, as far as it goes on."""
    seen: Seen = []
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reader.receive_data(stream)
    try:
        while isinstance(head := reader.next_event(), h11.Request):
            body = b""
            while isinstance(event := reader.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                break
            seen.append((head.method.decode(), plain(head.target), body))
            reader.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            reader.send(h11.EndOfMessage())
            reader.start_next_cycle()
    except (h11.ProtocolError, RuntimeError):
        pass
    return seen
