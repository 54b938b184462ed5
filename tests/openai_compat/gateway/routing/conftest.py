"""Targets that do what a script says, and orders for them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from openai_compat.config import Config, Upstream, UpstreamModel
from openai_compat.errors import RateLimited, UpstreamError, UpstreamTimeout
from openai_compat.gateway.order import Choice, Destination, Envelope, Failure, LocalTarget, Order, Target, UpstreamTarget
from openai_compat.gateway.routing.dispatcher import Router
from openai_compat.http.endpoint import Endpoint


class SpyTally:
    """Remembers what it was aimed at."""

    def __init__(self) -> None:
        self.aims: list[str] = []

    def aim(self, label: str, price: Any) -> None:
        self.aims.append(label)

    def used(self, prompt: int, completion: int, cached: int = 0) -> None: ...

    def passed(self, size: int) -> None: ...

    def close(self, *, complete: bool) -> None: ...


class ScriptedAnswer:
    def __init__(self, body: bytes) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body


class ScriptedSender:
    """Does for each target what its script says next, the last entry for ever: a ``Failure``, another error, or text to answer.

    Seconds before an entry, as a pair, pass before it. ``asked`` is who was asked, in order; ``held`` who is being asked now.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.held: list[str] = []
        self.left_with: list[BaseException | None] = []

    def send(self, order: Order, target: Target) -> ScriptedExchange:
        order.tally.aim(target.label, target.price)
        return ScriptedExchange(self, target.label)


class ScriptedExchange:
    def __init__(self, sender: ScriptedSender, label: str) -> None:
        self._sender = sender
        self._label = label

    async def __aenter__(self) -> ScriptedAnswer:
        sender = self._sender
        sender.asked.append(self._label)
        sender.held.append(self._label)
        try:
            return ScriptedAnswer((await self._next()).encode())
        except BaseException:
            sender.held.remove(self._label)
            raise

    async def _next(self) -> str:
        script = self._sender.scripts.get(self._label, [self._label])
        entry = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(entry, tuple):
            seconds, entry = entry
            await asyncio.sleep(seconds)
        if isinstance(entry, BaseException):
            raise entry
        return str(entry)

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._sender.held.remove(self._label)
        self._sender.left_with.append(error)


class Nothing(Struct):
    pass


class Bench:
    """A router with scripted targets. ``route`` is the settings of the route ``r``; targets are ``a``, ``b`` … of upstreams of
    the same name, and local models where their name begins with ``local``.
    """

    def __init__(self, route: dict[str, Any], upstream: dict[str, Any], targets: str, pause: float = 0.0) -> None:
        self.names = targets.split()
        self.sender = ScriptedSender()
        self.now = 1000.0
        self.upstreams = {name: msgspec.convert({"base_url": "http://x.invalid", **upstream}, Upstream) for name in "abcdef"}
        config = msgspec.convert({"routes": {"r": {"targets": self.names, **route}}}, Config)
        config = msgspec.structs.replace(config, upstreams=self.upstreams)
        self.router = Router(
            config, lambda _: self.sender, random=random.Random(1), clock=lambda: self.now, pause=lambda tries: pause
        )
        self.sizes: dict[str, int] = {}
        self.weights: dict[str, float] = {}
        self.larger: str | None = None
        self.tally = SpyTally()

    def target(self, name: str) -> Target:
        if name.startswith("local"):
            return LocalTarget(model_id=name)
        model = UpstreamModel(context_length=self.sizes.get(name))
        return UpstreamTarget(upstream=name, model=model, remote_name="m", label=name)

    def order(self, **fields: Any) -> Order:
        body = fields.pop("body", b"{}")
        given = {
            "method": "POST",
            "path": "/v1/chat/completions",
            "query": "",
            "headers": [],
            "envelope": msgspec.json.decode(body, type=Envelope) if isinstance(body, bytes) else Envelope(),
            "public_name": "r",
            "request_id": "req-1",
            "key_id": "",
            "deadline": self.now + 60,
            "tally": self.tally,
            "endpoint": Endpoint(Nothing, lambda _: "generate_text"),
            "scope": {},
        }
        return Order(body=body, **{**given, **fields})

    def destination(self, only: str | None = None) -> Destination:
        if only is not None:
            return Destination(public_name=only, choices=(Choice(target=self.target(only)),))
        choices = tuple(Choice(target=self.target(name), weight=self.weights.get(name, 1.0)) for name in self.names)
        larger = None if self.larger is None else self.target(self.larger)
        return Destination(public_name="r", choices=choices, route="r", larger=larger)

    async def ask(self, only: str | None = None, **fields: Any) -> str:
        """Who answered. Raises what the client would read."""
        async with self.router.open(self.order(**fields), self.destination(only)) as answer:
            return b"".join([chunk async for chunk in answer.chunks()]).decode()

    def state(self, name: str) -> Any:
        return next(state for state in self.router.states() if state.target == name)

    def script(self, **scripts: Any) -> None:
        for name, script in scripts.items():
            self.sender.scripts[name] = script if isinstance(script, list) else [script]


@pytest.fixture
def bench() -> Callable[..., Bench]:
    def make(targets: str = "a b c", *, upstream: dict[str, Any] | None = None, pause: float = 0.0, **route: Any) -> Bench:
        return Bench(route, upstream or {}, targets, pause)

    return make


@pytest.fixture
def failure() -> Callable[..., Failure]:
    """A failure by its cause, as senders make them."""
    made = {"rate_limited": RateLimited, "timeout": UpstreamTimeout}

    def make(cause: Any, wait: float | None = None, message: str = "", **fields: Any) -> Failure:
        error = made.get(cause, UpstreamError)(message or f"It was {cause}.", retry_after=wait, **fields)
        return Failure(cause, error, retry_after=wait)

    return make


@pytest.fixture
def took() -> Callable[[], float]:
    """Seconds since the test began."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
