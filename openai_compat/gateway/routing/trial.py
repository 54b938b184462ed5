"""One try at one target, with what is to be remembered of it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

from openai_compat.errors import DeadlineExceeded, UpstreamError, WorkerDied
from openai_compat.gateway.order import Failure, Order, Sender, Target
from openai_compat.gateway.replica import Answer, ReplicaLost
from openai_compat.gateway.routing.standing import Standing, left_alone

# An answer that had begun and was broken off by the target.
_BROKEN = (UpstreamError, DeadlineExceeded, WorkerDied, ReplicaLost)


class Trial:
    """Entered, it asks; raises ``Failure``, also where the target is left alone. Left early, the work there ends."""

    __slots__ = ("_exchange", "_order", "_sender", "_standing", "_target", "_ticket")

    def __init__(self, order: Order, target: Target, standing: Standing, sender: Sender) -> None:
        self._order = order
        self._target = target
        self._standing = standing
        self._sender = sender
        self._ticket = 0
        self._exchange: AbstractAsyncContextManager[Answer] | None = None

    async def __aenter__(self) -> Answer:
        standing = self._standing
        ticket = standing.circuit.admit()
        if ticket is None:
            standing.failures["open"] += 1
            raise left_alone(self._order.public_name, standing.circuit.left_alone_for())
        standing.in_flight += 1
        try:
            exchange = self._sender.send(self._order, self._target)
            answer = await exchange.__aenter__()
        except BaseException as error:
            standing.in_flight -= 1
            self._record(ticket, error)
            raise
        self._exchange = exchange
        standing.begun += 1
        # The end of an answer tells more than its beginning, but a target that is tried again is not to wait so long.
        self._ticket = ticket if standing.circuit.state == "closed" else standing.circuit.succeeded(ticket)
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What the sender makes of ``error`` is raised in its place."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        standing = self._standing
        standing.in_flight -= 1
        if error is None:
            standing.circuit.succeeded(self._ticket)
        elif isinstance(error, _BROKEN):
            standing.broke(self._ticket)
        await exchange.__aexit__(kind, error, trace)

    def _record(self, ticket: int, error: BaseException) -> None:
        """A client that left, a deadline and a request that is wrong in itself say nothing of the target."""
        if isinstance(error, Failure):
            self._standing.failed(ticket, error)
        else:
            self._standing.circuit.dropped(ticket)
