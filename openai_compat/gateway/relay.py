"""The gateway's answer to a request for a model: find out whose it is, open an answer there, copy its bytes.

    body → envelope → destination → account → cache → dispatcher → copy

Of the body only the envelope is read here. Our own models check the rest of it before they are asked for
(``gateway.local``); an upstream checks it itself. After the first byte of an answer a failure is an error event of the stream,
and a broken connection where the answer is no stream.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from litestar.types import HTTPScope, Receive, Send
from msgspec import Struct

from openai_compat.config import Config
from openai_compat.errors import APIError, Cancelled, DeadlineExceeded, ModelNotFound, PermissionRefused, ShuttingDown
from openai_compat.gateway.answer_cache import MISS, AnswerCache, Recorder
from openai_compat.gateway.body import brings_form, read_form_body, read_json_body
from openai_compat.gateway.checks import Checks, verbs_of
from openai_compat.gateway.delivery import ClientWatch, Deadline, Delivery
from openai_compat.gateway.local import decoded
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.limits import Arrival
from openai_compat.gateway.metering.tally import Tally
from openai_compat.gateway.order import AGAIN, Destination, Dispatcher, Envelope, Order
from openai_compat.gateway.replica import Answer, Headers
from openai_compat.gateway.spool import Body, Spool, Spooled
from openai_compat.grants import ANYBODY, Grant
from openai_compat.http.delays import Delay
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.form import Form
from openai_compat.http.request_id import request_id_of
from openai_compat.protocol import ASCII, PREFIX
from openai_compat.sizes import parse_size
from schemas.decode import decode

_REFUSALS = 400  # and above
_PRIVATE = PREFIX.encode(ASCII)  # the server gives header names in lower case
# Of one hop only, about the body's encoding (undone here), or a secret that a replica has no use for.
_DROPPED = frozenset(
    {
        b"accept-encoding", b"authorization", b"connection", b"content-encoding", b"content-length", b"cookie", b"expect",
        b"host", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade", b"x-api-key", b"x-request-id",
    }
)  # fmt: skip


class Finder(Protocol):
    """Knows what each name stands for."""

    def find(self, name: str, grant: Grant) -> Destination:
        """Raises ``ModelNotFound``, also for what ``grant`` may not use."""


class Relay:
    """Answers requests for models. Its parts say whose each is, what may be used, and how an answer is had."""

    def __init__(
        self, config: Config, finder: Finder, checks: Checks, dispatcher: Dispatcher, ledger: Ledger, cache: AnswerCache
    ) -> None:
        self._finder = finder
        self._checks = checks
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._cache = cache
        self._timeout = Delay(config.server.request_timeout)
        self._max_body = parse_size(config.server.max_body)
        self._origins = config.server.cors_origins
        self._spool = Spool(parse_size(config.server.spool_quota))

    async def serve(self, scope: HTTPScope, receive: Receive, send: Send, endpoint: Endpoint) -> None:
        """Answer one request. Raises the typed error of one that could not be begun."""
        began = time.monotonic()
        delivery = Delivery(send, scope["state"], began)
        watch = ClientWatch(receive, scope["state"], delivery)
        arrival = self._ledger.arrive(scope["state"].get("grant", ANYBODY))
        spooled = Spooled(self._spool) if endpoint.form is not None and brings_form(scope["headers"]) else None
        arrived = _Arrived(scope, endpoint, began + self._timeout.seconds, arrival)
        try:
            with Deadline(self._timeout):
                await self._read(arrived, receive, spooled)
                async with watch:
                    await self._answer(arrived, delivery)
        except TimeoutError:
            seconds = self._timeout.seconds
            await delivery.fail(DeadlineExceeded(f"The request took longer than {seconds:g} seconds.", retry=False))
        except asyncio.CancelledError:  # the server ends, and the time that it gave to running requests is over
            await delivery.fail(ShuttingDown("The server is shutting down.", retry_after=1))
        except Cancelled:
            if not watch.client_gone:
                raise
        finally:
            arrival.close()
            if spooled is not None:
                spooled.close()

    async def _read(self, arrived: _Arrived, receive: Receive, spooled: Spooled | None) -> None:
        """The body as a replica will get it; of a form, which is ``spooled``, its fields, too."""
        headers = arrived.scope["headers"]
        if spooled is not None:
            arrived.form = await read_form_body(headers, receive, self._max_body, spooled, self._origins)
            arrived.body = spooled
        else:
            forms = arrived.endpoint.form is not None
            arrived.body = await read_json_body(headers, receive, self._max_body, forms=forms, origins=self._origins)

    async def _answer(self, arrived: _Arrived, delivery: Delivery) -> None:
        envelope = _envelope(arrived)
        destination = await self._destination(arrived, envelope)
        state, only = arrived.scope["state"], destination.only
        state["model"] = destination.route if only is None else only.label
        tally = self._account(arrived, envelope, destination, delivery)
        complete = failed = False
        try:
            order = _order(arrived, envelope, destination.public_name, tally)
            arrived.body = b""  # whose it is now
            failed = not await self._deliver(order, destination, delivery)
            complete = True
        except APIError as error:
            failed = not delivery.started
            await delivery.fail(error)
        finally:
            state["model"] = tally.label or state["model"]  # of a route the target that was asked last
            tally.close(complete=complete, failed=failed)

    async def _destination(self, arrived: _Arrived, envelope: Envelope) -> Destination:
        """Where the request goes. One for nobody is told first what else is wrong with it."""
        grant = arrived.scope["state"].get("grant", ANYBODY)
        name = envelope.model
        if name is None:
            request = decoded(arrived)
            name = (await self._checks.target(request, verbs_of(arrived.endpoint.plan(request)), grant)).public_name
        if grant.models:
            _check_alternatives(envelope)
        try:
            return self._finder.find(name, grant)
        except ModelNotFound:
            arrived.endpoint.plan(decoded(arrived))
            raise

    def _account(self, arrived: _Arrived, envelope: Envelope, destination: Destination, delivery: Delivery) -> Tally:
        """Raises ``RateLimited`` where the key may use no more."""
        state, path = arrived.scope["state"], arrived.scope["path_template"]
        grant = state.get("grant", ANYBODY)
        arrived.arrival.close()
        counts = 0 if state.get(AGAIN) else 1
        tally = self._ledger.open(
            grant, path=path, body=arrived.body, envelope=envelope, choices=destination.choices, requests=counts
        )
        if (hold := tally.hold) is not None:
            state["headers"] = hold.headers
            delivery.on_last = hold.leave
        return tally

    async def _deliver(self, order: Order, destination: Destination, delivery: Delivery) -> bool:
        """Whether it was an answer, and no refusal. Raises ``APIError`` where there was none, or only a part."""
        if (cached := self._cache.lookup(order)) is not None:
            return await _copy(cached, order, delivery, None)
        recorder = self._cache.recorder(order)
        async with self._dispatcher.open(order, destination) as answer:
            if recorder is None:
                return await _copy(answer, order, delivery, None)
            with recorder:
                return await _copy(answer, order, delivery, recorder)


async def _copy(answer: Answer, order: Order, delivery: Delivery, recorder: Recorder | None) -> bool:
    passed = order.tally.passed
    if recorder is not None:
        recorder.start(answer.status, answer.headers)
        delivery.before_last(recorder.finish)
    await delivery.start(answer.status, answer.headers if recorder is None else [*answer.headers, MISS])
    if delivery.streams:
        order.forget()
    async for chunk in answer.chunks():
        passed(len(chunk))
        if recorder is not None:
            recorder.saw(chunk)
        await delivery.pass_on(chunk)
    await delivery.end()
    return answer.status < _REFUSALS


class _Arrived(Struct):
    """A request as it comes in. ``deadline`` is on the monotonic clock."""

    scope: HTTPScope
    endpoint: Endpoint
    deadline: float
    arrival: Arrival
    body: bytes | Body = b""
    form: Form | None = None


def _order(arrived: _Arrived, envelope: Envelope, public_name: str, tally: Tally) -> Order:
    scope = arrived.scope
    return Order(
        method=scope["method"],
        path=scope["path_template"],
        query=scope["query_string"].decode(ASCII),
        headers=_passed_on(scope["headers"]),
        body=arrived.body,
        envelope=envelope,
        public_name=public_name,
        request_id=scope["state"].get("request_id") or request_id_of(scope["headers"]),
        key_id=tally.key_id,
        deadline=arrived.deadline,
        tally=tally,
        form=arrived.form,
        endpoint=arrived.endpoint,
        scope=scope,
    )


def _envelope(arrived: _Arrived) -> Envelope:
    """Raises ``InvalidRequest``."""
    if arrived.form is None:
        return decode(arrived.body, Envelope) if isinstance(arrived.body, bytes) else Envelope()
    fields = {name: values[-1] for name, values in arrived.form.fields.items()}
    return Envelope(
        model=fields.get("model") or None,
        stream=fields.get("stream", "").lower() == "true",
        user=fields.get("user"),
        prompt_cache_key=fields.get("prompt_cache_key"),
    )


def _check_alternatives(envelope: Envelope) -> None:
    """Raises ``PermissionRefused``: what an upstream makes of it, and by which names, is not known here."""
    if name := envelope.alternatives:
        message = f"This key is for certain models, and '{name}' may name others."
        raise PermissionRefused(message, param=name, code="model_not_allowed")


def _passed_on(headers: Any) -> Headers:
    return [pair for pair in headers if pair[0] not in _DROPPED and not pair[0].startswith(_PRIVATE)]
