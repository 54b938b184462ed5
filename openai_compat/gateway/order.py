"""What travels through the gateway: a request on its way to a target, and why a try at one came to nothing.

    Relay → Dispatcher (which target, again, another) → Sender (this target) → Answer

A ``Sender`` opens one exchange with one target. What it returns is an answer that may go to the client as it is, its own 4xx
included; everything that another target might do better is a ``Failure``, raised before the first byte.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from litestar.types import HTTPScope
from msgspec import Raw, Struct

from openai_compat.config import Price, UpstreamModel
from openai_compat.errors import APIError
from openai_compat.gateway.metering.tally import OnUsage
from openai_compat.gateway.replica import Answer, Headers
from openai_compat.gateway.spool import Body
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.form import Form

AGAIN = "again"
"""In a request's state: whether it was asked in other words before, and counted."""
Cause = Literal["not_begun", "lost", "timeout", "rate_limited", "server_error", "refused", "context", "open"]
"""``refused``: the target will not have us, whatever we ask (401, 403, 404 of the model). ``open``: its breaker is."""


class Envelope(Struct, frozen=True, kw_only=True):
    """What the gateway reads of a body before it knows whose it is; of other fields no objects are built.

    All but the model have no type: what they may be is the target's to say.
    """

    model: str | None = None
    stream: Any = None
    stream_options: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    temperature: Any = None
    prompt_cache_key: Any = None
    user: Any = None
    models: Raw = Raw()
    fallbacks: Raw = Raw()
    preset: Raw = Raw()

    @property
    def alternatives(self) -> str:
        """The field by which an upstream of some kinds (OpenRouter, LiteLLM) may answer with another model; empty if none."""
        fields = ("models", self.models), ("fallbacks", self.fallbacks), ("preset", self.preset)
        return next((name for name, value in fields if value), "")

    @property
    def streams(self) -> bool:
        return self.stream is True

    @property
    def asks_usage(self) -> bool:
        """Whether the client wants the usage of a stream."""
        options = self.stream_options
        return isinstance(options, dict) and options.get("include_usage") is True


class LocalTarget(Struct, frozen=True, kw_only=True):
    """A model of this machine: a worker's, or an engine's."""

    model_id: str
    mode: str | None = None
    price: Price = Price()

    @property
    def label(self) -> str:
        """For metrics, the log and the ledger: from a closed set."""
        return self.model_id


class UpstreamTarget(Struct, frozen=True, kw_only=True):
    """A model of an upstream. ``remote_name`` is what it is called there; ``label`` never is what a client made up."""

    upstream: str
    model: UpstreamModel
    remote_name: str
    label: str

    @property
    def price(self) -> Price:
        return self.model.price


Target = LocalTarget | UpstreamTarget


class Choice(Struct, frozen=True, kw_only=True):
    """One target of a destination, and its share."""

    target: Target
    weight: float = 1.0


class Destination(Struct, frozen=True, kw_only=True):
    """What a name in a request stands for. ``route`` is the route's own name, empty where the name is one target's.

    ``larger`` takes what the choices refuse as too long. ``base`` is ``public_name`` without the mode that it ends with, and
    empty where it ends with none.
    """

    public_name: str
    base: str = ""
    choices: tuple[Choice, ...]
    route: str = ""
    larger: Target | None = None

    @property
    def only(self) -> Target | None:
        """The target, where there is no choice."""
        return self.choices[0].target if not self.route else None


class Tally(Protocol):
    """The account of one request: opened with what it may use at most, settled with what it used.

    ``label`` is that of the target which was tried last, empty before the first.
    """

    label: str

    def aim(self, label: str, price: Price) -> None:
        """The target that is tried now."""

    def used(self, prompt: int, completion: int, cached: int = 0) -> None:
        """True counts in tokens; the last ones said count."""

    def awaits(self) -> OnUsage:
        """For a target that says by itself what it did, even after the answer's end, as our workers do: ``Lease.on_usage``.

        What is returned is to be called once, with the true counts, or with None when they will never come. Until then the
        account stays open, whenever it is closed.
        """

    def spent(self, label: str, price: Price) -> None:
        """A target was let go while it may have worked, beside the one that answers: what it took is estimated, marked so."""

    def forget(self) -> None:
        """The body of the request, of which an estimate needs only the size."""

    def passed(self, size: int) -> None:
        """Bytes of an answer went to the client, for an estimate where nobody counts."""

    def close(self, *, complete: bool, failed: bool = False) -> None:
        """Nothing more comes, or a part of it never will. What was not counted is estimated, and marked so, unless the last
        target has ``failed``: it gave an error, whatever its status, and did no work. A second call changes nothing.
        """


class Order(Struct, kw_only=True):
    """A request for one or several targets. ``path`` begins with ``/v1``; ``headers`` are the client's, without those of one
    hop and without its secrets; ``deadline`` is on the monotonic clock.

    ``form`` is what a multipart ``body`` says, its files left out; ``envelope`` then holds its fields of those names.
    ``endpoint`` is what our own models check the body with, and ``scope`` is the client's connection.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes | Body
    envelope: Envelope
    public_name: str
    request_id: str
    key_id: str
    deadline: float
    tally: Tally
    form: Form | None = None
    endpoint: Endpoint
    scope: HTTPScope

    def forget(self) -> None:
        """What was asked, once an answer has begun: nobody will be asked again, and a stream may last for hours."""
        self.headers, self.body = [], b""
        self.scope["headers"] = []
        self.tally.forget()


class Failure(Exception):
    """A try at one target came to nothing before the first byte. ``error`` is what the client reads if it was the last one.

    ``retry_after`` is what the target asked for, in seconds.
    """

    def __init__(self, cause: Cause, error: APIError, *, retry_after: float | None = None) -> None:
        super().__init__(error.message)
        self.cause = cause
        self.error = error
        self.retry_after = retry_after


class Sender(Protocol):
    """The way to one target."""

    def send(self, order: Order, target: Any) -> AbstractAsyncContextManager[Answer]:
        """Enter to send; raises ``Failure``. Leaving before the answer's end cancels the work there. ``chunks`` of the answer
        raises ``APIError`` when it breaks off, in words for the client.
        """


class Dispatcher(Protocol):
    """Decides which target, and which next."""

    def open(self, order: Order, destination: Destination) -> AbstractAsyncContextManager[Answer]:
        """Raises ``APIError`` when every try has failed."""
