"""What was sent to an upstream, and how, for whoever reads the answer."""

from __future__ import annotations

from typing import Protocol

from aiohttp.connector import Connection
from aiohttp.streams import StreamReader
from msgspec import Struct
from multidict import CIMultiDictProxy

from openai_compat.config import Upstream
from openai_compat.gateway.order import Order, UpstreamTarget
from openai_compat.http.delays import Delay


class Response(Protocol):
    """What is needed of an answer whose head is there; ``connection`` may be None once it is complete."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]: ...

    @property
    def content(self) -> StreamReader: ...

    @property
    def connection(self) -> Connection | None: ...

    def close(self) -> None: ...


class SendPlan(Struct, frozen=True, kw_only=True):
    """One request as it went to one upstream, handed to ``answer.begin`` with the response's head.

    ``asked_usage``: we asked for usage that the client did not ask for, so it must be removed again.
    ``echo``: the remote name and the public one where they differ; answers say the latter.
    ``secrets``: what nobody may read of us in an answer: keys, addresses.
    ``ping_interval`` is in seconds, as in the server's configuration. ``glances`` are for ``Patience``.

    A packed answer is unpacked as it is read, and its headers ``content-encoding`` and ``content-length`` then go. Redirects
    never come so far. No time-out is set any more: how long to wait for a body is the reader's to say.
    """

    order: Order
    target: UpstreamTarget
    upstream: Upstream
    asked_usage: bool
    echo: tuple[str, str] | None
    ping_interval: float
    glances: Delay
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"SendPlan({self.order.request_id}, {self.target.label})"
