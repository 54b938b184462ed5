"""The way to a model of this machine: its own checks, a lease on its worker, and the worker's answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from litestar.types import HTTPScope

from openai_compat.errors import (
    APIError,
    InvalidRequest,
    ModelUnavailable,
    RateLimited,
    Unavailable,
    UnsupportedCapability,
    UnsupportedMode,
    UnsupportedParameter,
    WorkerDied,
)
from openai_compat.gateway.catalog import Target as Named
from openai_compat.gateway.checks import Checks, verbs_of
from openai_compat.gateway.doors import Doors
from openai_compat.gateway.order import Cause, Failure, LocalTarget, Order
from openai_compat.gateway.replica import Answer, Call, Headers, NotBegun, ReplicaLost
from openai_compat.gateway.slot import Lease
from openai_compat.gateway.spool import Body
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.form import Form
from openai_compat.media.urls import not_enabled
from openai_compat.protocol import ASCII, FetchRules, RelayFacts
from schemas.common import ErrorDetail, ErrorResponse
from schemas.decode import decode

_LONGEST_ERROR = 1 << 16
_TOO_LONG = "context_length_exceeded"
_JSON = b"application/json"
# A worker's own words for what another target might do; its other errors go to the client as they are.
_ELSEWHERE: dict[int, type[APIError]] = {
    HTTPStatus.BAD_REQUEST: InvalidRequest,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
    HTTPStatus.INTERNAL_SERVER_ERROR: APIError,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
}
_CAUSES: dict[int, Cause] = {HTTPStatus.BAD_REQUEST: "context", HTTPStatus.TOO_MANY_REQUESTS: "rate_limited"}


class Leases(Protocol):
    """The part of the pool that a request needs."""

    async def acquire(self, model_id: str, *, wait: float | None = None, request_id: str = ...) -> Lease: ...


class Linker(Protocol):
    """Whatever keeps the pictures of an answer."""

    async def linked(self, answer: bytes, scope: HTTPScope) -> bytes: ...


class LocalSender:
    """``Sender`` for local models. Without rules to ``fetch`` by, a request with the URL of another server is refused."""

    def __init__(self, checks: Checks, pool: Leases, links: Linker | None = None, fetch: FetchRules | None = None) -> None:
        self.checks = checks
        self.pool = pool
        self.links = links
        self.fetch = fetch
        self.doors = Doors()

    def send(self, order: Order, target: LocalTarget) -> _Exchange:
        return _Exchange(self, order, target)


class _Exchange:
    """One request to one worker. Everything that can be refused without the model is refused before it is asked for."""

    def __init__(self, sender: LocalSender, order: Order, target: LocalTarget) -> None:
        self._sender = sender
        self._order = order
        self._target = target
        self._lease: Lease | None = None
        self._open: Any = None
        self._fetch: FetchRules | None = None

    async def __aenter__(self) -> Answer:
        request = await self._checked()
        self._lease = lease = await self._acquire()
        self._order.tally.aim(self._target.label, self._target.price)  # whoever leaves before has used nothing
        lease.on_usage = self._order.tally.awaits()
        try:
            return await self._begin(lease, request)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        opened, self._open = self._open, None
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if isinstance(error, ReplicaLost):
            lease.suspect()
        try:
            if opened is not None:
                await opened.__aexit__(None, None, None)
        finally:
            lease.leave()
        if isinstance(error, ReplicaLost):
            raise self._died() from error

    async def _checked(self) -> Any:
        """The request as its schema has it. What this model cannot do, another one may."""
        request = decoded(self._order)
        verbs = verbs_of(self._order.endpoint.plan(request))
        model = Named(model_id=self._target.model_id, mode=self._target.mode, public_name=self._order.public_name)
        try:
            self._check_remote(request)
            await self._sender.checks.admit(model, request, verbs)
        except (UnsupportedCapability, UnsupportedMode, UnsupportedParameter) as error:
            raise Failure("refused", error) from error
        except ModelUnavailable as error:
            raise Failure("server_error", error, retry_after=error.retry_after) from error
        return request

    def _check_remote(self, request: Any) -> None:
        remote = self._order.endpoint.remote
        field = None if remote is None else remote(request)
        if field is None:
            return
        if self._sender.fetch is None:
            raise not_enabled(field)
        self._fetch = self._sender.fetch

    async def _acquire(self) -> Lease:
        try:
            self._sender.doors.check(self._target.model_id)
        except RateLimited as error:
            raise Failure("rate_limited", error, retry_after=error.retry_after) from error
        try:
            return await self._sender.pool.acquire(self._target.model_id, request_id=self._order.request_id)
        except Unavailable as error:
            raise Failure("server_error", error, retry_after=error.retry_after) from error

    async def _begin(self, lease: Lease, request: Any) -> Answer:
        opened = lease.replica.forward(_call(self._order, self._target, lease, self._fetch))
        try:
            answer = await opened.__aenter__()
        except NotBegun as error:
            lease.discard()
            raise Failure("not_begun", self._died()) from error
        except ReplicaLost as error:
            lease.suspect()
            raise Failure("not_begun" if await lease.spared() else "lost", self._died()) from error
        self._open = opened
        if answer.status in _ELSEWHERE:
            try:
                return await _refusal(answer)
            except Failure as failure:
                if isinstance(failure.error, RateLimited):
                    self._sender.doors.heard(self._target.model_id, answer.headers, failure.error)
                raise
        links, wanted = self._sender.links, self._order.endpoint.links
        if links is not None and wanted is not None and wanted(request) and _is_json(answer):
            return Whole(answer.status, answer.headers, await links.linked(await read_whole(answer), self._order.scope))
        return answer

    def _died(self) -> WorkerDied:
        message = f"The process of the model '{self._order.public_name}' ended while it worked on the request."
        return WorkerDied(message, retry_after=1)


class Whole:
    """An answer that is in memory; its length is said anew."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        kept = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")]
        self.status = status
        self.headers: Headers = [*kept, (b"content-length", str(len(body)).encode())]
        self.body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body


async def read_whole(answer: Answer) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks()])


class Asked(Protocol):
    """What is known of a request before anything is decided about it."""

    @property
    def body(self) -> bytes | Body: ...
    @property
    def form(self) -> Form | None: ...
    @property
    def endpoint(self) -> Endpoint: ...


def decoded(order: Asked) -> Any:
    """The body as the route's Struct. Raises ``InvalidRequest``."""
    if order.form is not None and order.endpoint.form is not None:
        return order.endpoint.form(order.form)
    return decode(order.body if isinstance(order.body, bytes) else b"", order.endpoint.request)


async def _refusal(answer: Answer) -> Answer:
    """The answer, unless another target may do better: then it is a ``Failure`` that says the same."""
    body = await read_whole(answer)
    try:
        detail = msgspec.json.decode(body[:_LONGEST_ERROR], type=ErrorResponse).error
    except msgspec.DecodeError:
        return Whole(answer.status, answer.headers, body)
    if answer.status == HTTPStatus.BAD_REQUEST and detail.code != _TOO_LONG:
        return Whole(answer.status, answer.headers, body)
    error = _error(answer, detail)
    raise Failure(_CAUSES.get(answer.status, "server_error"), error, retry_after=error.retry_after)


def _error(answer: Answer, detail: ErrorDetail) -> APIError:
    fields = {name.lower(): value.decode(ASCII) for name, value in answer.headers}
    wait, again = fields.get(b"retry-after", ""), fields.get(b"x-should-retry")
    return _ELSEWHERE[answer.status](
        detail.message,
        param=detail.param,
        code=detail.code,
        retry_after=float(wait) if wait.isdigit() else None,
        retry=None if again is None else again == "true",
    )


def _is_json(answer: Answer) -> bool:
    """Whether it is a whole answer, and no error."""
    types = [value for name, value in answer.headers if name.lower() == b"content-type"]
    return answer.status == HTTPStatus.OK and any(value.startswith(_JSON) for value in types)


def _call(order: Order, target: LocalTarget, lease: Lease, fetch: FetchRules | None) -> Call:
    facts = RelayFacts(
        request_id=lease.request_id,
        model=target.model_id,
        public_model=order.public_name,
        mode=target.mode,
        cache_salt=order.key_id,
        deadline=max(0.0, order.deadline - time.monotonic()),
        fetch=fetch,
    )
    headers: Headers = [
        *order.headers,
        *((name.encode(ASCII), value.encode(ASCII)) for name, value in facts.to_headers().items()),
    ]
    target_path = f"{order.path}?{order.query}" if order.query else order.path
    return Call(order.method, target_path, headers, order.body)
