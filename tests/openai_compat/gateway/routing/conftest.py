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
    """Remembers what it was told, in order; ``aims`` are the targets alone."""

    def __init__(self) -> None:
        self.label = ""
        self.said: list[tuple[Any, ...]] = []

    @property
    def aims(self) -> list[str]:
        return [said[1] for said in self.said if said[0] == "aim"]

    def aim(self, label: str, price: Any) -> None:
        self.label = label
        self.said.append(("aim", label))

    def used(self, prompt: int, completion: int, cached: int = 0) -> None:
        self.said.append(("used", prompt, completion, cached))

    def awaits(self) -> Callable[[Any], None]:
        label = self.label
        return lambda counts: self.said.append(("report", label, counts))

    def spent(self, label: str, price: Any) -> None:
        self.said.append(("spent", label))

    def forget(self) -> None:
        raise NotImplementedError

    def passed(self, size: int) -> None:
        raise NotImplementedError

    def close(self, *, complete: bool, failed: bool = False) -> None:
        raise NotImplementedError


class ScriptedAnswer:
    def __init__(self, body: bytes) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body


class ScriptedSender:
    """Does for each target what its script says next, the last entry for ever: a ``Failure``, another error, or text to answer.

    Seconds before an entry, as a pair, pass before it. ``counts`` are tokens that a target says it used before it answers;
    ``reports`` those that it reports by itself once its answer is left. ``asked`` is who was asked, in order; ``held`` who is
    being asked now.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.held: list[str] = []
        self.left_with: list[BaseException | None] = []
        self.counts: dict[str, tuple[int, int]] = {}
        self.reports: dict[str, Any] = {}

    def send(self, order: Order, target: Target) -> ScriptedExchange:
        return ScriptedExchange(self, order, target)


class ScriptedExchange:
    def __init__(self, sender: ScriptedSender, order: Order, target: Target) -> None:
        self._sender = sender
        self._label = target.label
        self._price = target.price
        self._tally = order.tally
        self._report: Callable[[Any], None] | None = None

    async def __aenter__(self) -> ScriptedAnswer:
        sender = self._sender
        sender.asked.append(self._label)
        sender.held.append(self._label)
        self._tally.aim(self._label, self._price)
        if self._label in sender.reports:
            self._report = self._tally.awaits()
        try:
            said = await self._next()
            if self._label in sender.counts:
                self._tally.used(*sender.counts[self._label])
            return ScriptedAnswer(said.encode())
        except BaseException:
            self._leave()
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
        self._leave()
        self._sender.left_with.append(error)

    def _leave(self) -> None:
        self._sender.held.remove(self._label)
        if self._report is not None:
            self._report(self._sender.reports[self._label])


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
