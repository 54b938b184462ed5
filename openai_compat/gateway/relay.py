"""The gateway's answer to a request for a model: check it without the model, get a replica, copy bytes.

    body → decode → plan → resolve → capability and mode → lease → forward → copy

A request may go to a second replica only when it has not begun at the first. After the first byte of an answer a failure is an
error event of the stream, and a broken connection where the answer is no stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import Any, Protocol

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from msgspec import Struct

from openai_compat.config import Config
from openai_compat.errors import (
    APIError,
    Cancelled,
    DeadlineExceeded,
    ShuttingDown,
    WorkerDied,
)
from openai_compat.gateway.body import brings_form, read_form_body, read_json_body
from openai_compat.gateway.checks import Checks, Names, Target, verbs_of
from openai_compat.gateway.delivery import ClientWatch, Delivery
from openai_compat.gateway.replica import Answer, Call, Headers, NotBegun, ReplicaLost
from openai_compat.gateway.slot import Lease
from openai_compat.gateway.spool import Body, Spool, Spooled
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.request_id import request_id_of
from openai_compat.protocol import ASCII, PREFIX, RelayFacts
from openai_compat.sizes import parse_size
from schemas.decode import decode

logger = logging.getLogger(__name__)
_ATTEMPTS = 2
_PRIVATE = PREFIX.encode(ASCII)  # the server gives header names in lower case
# Of one hop only, about the body's encoding (undone here), or a secret that a replica has no use for.
_DROPPED = frozenset(
    {
        b"accept-encoding", b"authorization", b"connection", b"content-encoding", b"content-length", b"cookie", b"expect",
        b"host", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade", b"x-api-key", b"x-request-id",
    }
)  # fmt: skip


class Leases(Protocol):
    """The part of the pool that a request needs."""

    async def acquire(self, model_id: str, *, wait: float | None = None, request_id: str = ...) -> Lease: ...


class Linker(Protocol):
    """Whatever keeps the pictures of an answer."""

    async def linked(self, answer: bytes, scope: HTTPScope) -> bytes: ...


class _Order(Struct, frozen=True):
    """A request that passed every check: where it goes, and what travels with it. ``deadline`` is on the monotonic clock.

    ``links``: its pictures are to be kept, and linked.
    """

    target: Target
    body: bytes | Body
    request_id: str
    deadline: float
    links: bool


class Relay:
    """Answers on routes whose handler declares ``opt["endpoint"]``. ``middleware`` is what an application takes."""

    def __init__(self, config: Config, catalog: Names, pool: Leases, links: Linker | None = None) -> None:
        self._checks = Checks(catalog)
        self._pool = pool
        self._links = links
        self._timeout = config.server.request_timeout
        self._max_body = parse_size(config.server.max_body)
        self._origins = config.server.cors_origins
        self._spool = Spool(parse_size(config.server.spool_quota))

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """``app`` with the relay in front of it; routes that declare no endpoint pass through."""

        async def relayed(scope: Scope, receive: Receive, send: Send) -> None:
            endpoint = _endpoint_of(scope)
            if endpoint is None or scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
            else:
                await self.serve(scope, receive, send, endpoint)

        return relayed

    async def serve(self, scope: HTTPScope, receive: Receive, send: Send, endpoint: Endpoint) -> None:
        """Answer one request. Raises the typed error of one that could not be begun."""
        began = time.monotonic()
        delivery = Delivery(send, scope["state"], began)
        watch = ClientWatch(receive)
        spooled = Spooled(self._spool)
        try:
            async with asyncio.timeout(self._timeout):
                request, body = await self._read(scope, receive, endpoint, spooled)
                async with watch:
                    target = await self._check(scope, request, endpoint)
                    links = endpoint.links is not None and endpoint.links(request)
                    order = _Order(target, body, _request_id(scope), began + self._timeout, links)
                    await self._answer(scope, order, delivery)
        except TimeoutError:
            await delivery.fail(DeadlineExceeded(f"The request took longer than {self._timeout:g} seconds.", retry=False))
        except asyncio.CancelledError:  # the server ends, and the time that it gave to running requests is over
            await delivery.fail(ShuttingDown("The server is shutting down.", retry_after=1))
        except Cancelled:
            if not watch.client_gone:
                raise
        finally:
            spooled.close()

    async def _read(self, scope: HTTPScope, receive: Receive, endpoint: Endpoint, spooled: Spooled) -> tuple[Any, bytes | Body]:
        """What the request says, and its body as the replica will get it."""
        headers = scope["headers"]
        if endpoint.form is not None and brings_form(headers):
            return endpoint.form(await read_form_body(headers, receive, self._max_body, spooled, self._origins)), spooled
        body = await read_json_body(headers, receive, self._max_body, forms=endpoint.form is not None)
        return decode(body, endpoint.request), body

    async def _check(self, scope: HTTPScope, request: Any, endpoint: Endpoint) -> Target:
        """Everything that can be refused without the model. Returns where the request goes."""
        verbs = verbs_of(endpoint.plan(request))
        target = await self._checks.target(request, verbs)
        scope["state"]["model"] = target.model_id
        await self._checks.admit(target, request, verbs)
        return target

    async def _answer(self, scope: HTTPScope, order: _Order, delivery: Delivery) -> None:
        for _ in range(_ATTEMPTS):
            with await self._pool.acquire(order.target.model_id, request_id=order.request_id) as lease:
                try:
                    await self._copy(scope, order, lease, delivery)
                    return
                except NotBegun:
                    logger.warning("the worker of %s could not be reached", order.target.model_id)
                    lease.discard()
                except ReplicaLost:
                    lease.suspect()
                    await delivery.fail(_died(order))
                    return
        raise _died(order)

    async def _copy(self, scope: HTTPScope, order: _Order, lease: Lease, delivery: Delivery) -> None:
        async with lease.replica.forward(_call(scope, order, lease)) as answer:
            if order.links and self._links is not None and _is_json(answer):
                body = await self._links.linked(b"".join([chunk async for chunk in answer.chunks()]), scope)
                await delivery.start(answer.status, _with_length(answer.headers, len(body)))
                await delivery.pass_on(body)
                return
            await delivery.start(answer.status, answer.headers)
            async for chunk in answer.chunks():
                await delivery.pass_on(chunk)
            await delivery.end()


def _is_json(answer: Answer) -> bool:
    """Whether it is a whole answer, and no error."""
    types = [value for name, value in answer.headers if name.lower() == b"content-type"]
    return answer.status == HTTPStatus.OK and any(value.startswith(b"application/json") for value in types)


def _with_length(headers: Headers, length: int) -> Headers:
    kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]


def _endpoint_of(scope: Scope) -> Endpoint | None:
    handler = scope.get("route_handler")
    endpoint = None if handler is None else handler.opt.get("endpoint")
    return endpoint if isinstance(endpoint, Endpoint) else None


def _request_id(scope: HTTPScope) -> str:
    return scope["state"].get("request_id") or request_id_of(scope["headers"])


def _died(order: _Order) -> APIError:
    message = f"The process of the model '{order.target.public_name}' ended while it worked on the request."
    return WorkerDied(message, retry_after=1)


def _call(scope: HTTPScope, order: _Order, lease: Lease) -> Call:
    facts = RelayFacts(
        request_id=lease.request_id,
        model=order.target.model_id,
        public_model=order.target.public_name,
        mode=order.target.mode,
        cache_salt=str(scope["state"].get("key_id", "")),
        deadline=max(0.0, order.deadline - time.monotonic()),
    )
    headers: Headers = [
        (name, value) for name, value in scope["headers"] if name not in _DROPPED and not name.startswith(_PRIVATE)
    ]
    headers += [(name.encode(ASCII), value.encode(ASCII)) for name, value in facts.to_headers().items()]
    query = scope["query_string"]
    path = scope.get("raw_path") or scope["path"].encode()
    target = path.partition(b"?")[0] + (b"?" + query if query else b"")
    return Call(scope["method"], target.decode(ASCII), headers, order.body)
