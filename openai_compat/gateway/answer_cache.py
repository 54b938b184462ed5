"""Whole answers, given again to equal requests of the same key: exact matches only, bounded in bytes and in time.

Two requests are equal where the owner of the key, the path, the query, the version of the API and the body are. Of the body
the order of its fields does not matter, nor who the key's owner says is asking (``user`` and its like); ``stream`` and
``stream_options`` do, since they decide what an answer looks like. Values are compared as they are written.

An answer is kept when all of it has come, with status 200 and without an error in it. Equal requests that are under way at the
same time are not merged: each is answered by itself, and the last one is kept.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from types import TracebackType

import msgspec
from msgspec import Struct

from openai_compat.config import AnswerCache as Settings
from openai_compat.config import Price
from openai_compat.gateway.order import Order
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.upstreams.rewrite import has_too_many_names
from openai_compat.sizes import parse_size

NAME = b"x-cache"
"""Of the answer's header, ``hit`` or ``miss``; and of the request's, ``use``, where ``cache.when`` is ``header``."""
MISS = (NAME, b"miss")
"""For the answers that are taken down."""
_PATHS = frozenset(
    {
        "/v1/audio/speech", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/moderations", "/v1/rerank",
        "/v1/responses",
    }
)  # fmt: skip
_WITH_LAST_EVENT = ("/v1/chat/completions", "/v1/completions")
_ABOUT_WHO_ASKS = ("user", "safety_identifier")
_ABOUT_THE_ANSWER = (b"openai-beta", b"anthropic-beta", b"anthropic-version")  # headers that go to an upstream
_ECHOING = "/v1/responses"  # its answers repeat these
_SAID_AGAIN = (b"content-type", b"content-encoding")
_ERRORS = (b'data: {"error"', b'data:{"error"', b"event: error", b'"type":"error"')
_OVERHEAD = 1024  # bytes that an entry takes beside its answer, roughly
_SHARE = 8  # an answer that is more than this part of the whole would push out too many others

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Cached(Struct, kw_only=True, eq=False):
    """An ``Answer`` from memory; nobody changes it. ``label`` is the target's that once gave it."""

    status: int
    headers: Headers
    body: bytes
    label: str
    expires: float

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they were; the events of a stream come at once."""
        if self.body:
            yield self.body


class AnswerCache:
    """The answers that are kept, the one longest unused first. Lives on the event loop.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = parse_size(settings.size)
        self._ttl = settings.ttl
        self._by_header = settings.when == "header"
        self._clock = clock
        self._answers: OrderedDict[bytes, Cached] = OrderedDict()
        self._held = 0
        self.recording = 0
        """Bytes of answers that are still coming."""

    @property
    def held(self) -> int:
        """Bytes."""
        return self._held

    def lookup(self, order: Order) -> Cached | None:
        """The answer to an equal request; its tally is then aimed at the target that gave it, and costs nothing."""
        key = self._key(order)
        found = None if key is None else self._answers.get(key)
        if key is None or found is None:
            return None
        if found.expires <= self._clock():
            self._remove(key)
            return None
        self._answers.move_to_end(key)
        order.tally.aim(found.label, Price())
        order.tally.used(0, 0)
        return found

    def recorder(self, order: Order) -> Recorder | None:
        """What takes down the answer to ``order``; None where it is not to be kept."""
        key = self._key(order)
        return None if key is None else Recorder(self, key, order)

    def has_room(self, size: int) -> bool:
        """Whether ``size`` bytes more of one answer may be held while it comes."""
        return self.recording + size <= self._most

    @property
    def largest(self) -> int:
        """Bytes of the largest answer that is kept."""
        return self._most // _SHARE

    def keep(self, key: bytes, headers: Headers, body: bytes, label: str) -> None:
        self._remove(key)
        expires = self._clock() + self._ttl
        cached = Cached(status=HTTPStatus.OK, headers=headers, body=body, label=label, expires=expires)
        self._answers[key] = cached
        self._held += _size(cached)
        while self._held > self._most:
            self._remove(next(iter(self._answers)))

    def _remove(self, key: bytes) -> None:
        if (gone := self._answers.pop(key, None)) is not None:
            self._held -= _size(gone)

    def _key(self, order: Order) -> bytes | None:
        """None where an answer may be neither taken from here nor kept."""
        if not self._most or order.path not in _PATHS or order.method != "POST" or not isinstance(order.body, bytes):
            return None
        return _digest(order, order.body) if self._wants(order) else None

    def _wants(self, order: Order) -> bool:
        headers = dict(order.headers)
        directives = headers.get(b"cache-control", b"").lower()
        if b"no-store" in directives or b"no-cache" in directives:
            return False
        if self._by_header:
            return headers.get(NAME, b"").strip().lower() == b"use"
        temperature = order.envelope.temperature
        return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0


class Recorder:
    """Takes down one answer as it goes by. To be used as a context, so that what an answer broken off has left is let go of."""

    def __init__(self, cache: AnswerCache, key: bytes, order: Order) -> None:
        self._cache = cache
        self._key = key
        self._order = order
        self._headers: Headers | None = None
        self._chunks: list[bytes] = []
        self._size = 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._let_go()

    def start(self, status: int, headers: Headers) -> None:
        if status == HTTPStatus.OK:
            self._headers = [(name.lower(), value) for name, value in headers if name.lower() in _SAID_AGAIN]

    def saw(self, chunk: bytes) -> None:
        if self._headers is None:
            return
        if self._size + len(chunk) > self._cache.largest or not self._cache.has_room(len(chunk)):
            self._let_go()
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._cache.recording += len(chunk)

    def finish(self) -> None:
        """The answer is complete."""
        headers, body = self._headers, b"".join(self._chunks)
        self._let_go()
        if headers is None or not body:
            return
        events = any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
        if events and not _is_sound(self._order.path, body):
            return
        if not events:
            headers.append((b"content-length", str(len(body)).encode()))
        self._cache.keep(self._key, [*headers, (NAME, b"hit")], body, self._order.tally.label)

    def _let_go(self) -> None:
        self._cache.recording -= self._size
        self._headers, self._chunks, self._size = None, [], 0


def _is_sound(path: str, events: bytes) -> bool:
    """Whether a stream came to its proper end."""
    if any(mark in events for mark in _ERRORS):
        return False
    return path not in _WITH_LAST_EVENT or events.rstrip().endswith(b"[DONE]")


def _digest(order: Order, body: bytes) -> bytes | None:
    if has_too_many_names(body):
        return None
    try:
        fields = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    for name in _ABOUT_WHO_ASKS if order.path != _ECHOING else ():
        fields.pop(name, None)
    digest = hashlib.blake2b(digest_size=32)
    for part in (order.key_id, order.path, order.query):
        digest.update(_framed(part.encode()))
    for header in _ABOUT_THE_ANSWER:
        digest.update(_framed(b",".join(value for name, value in order.headers if name == header)))
    for name in sorted(fields):
        digest.update(_framed(name.encode()))
        digest.update(_framed(bytes(fields[name])))
    return digest.digest()


def _framed(part: bytes) -> bytes:
    """With its length before it, so that no two lists of parts look alike."""
    return len(part).to_bytes(8) + part


def _size(cached: Cached) -> int:
    return len(cached.body) + _OVERHEAD
