"""Dynamic batching by tokens: what all requests wait for is run together, alike lengths in one forward.

A batch grows around one waiting item: its nearest neighbours in length join it while the padded tokens fit the budget. The
requests take turns in choosing that item, so that none waits for another's end, and none for ever. Whoever has just had a turn
stands behind those that came meanwhile.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from handlers.deferred import Deferred
from handlers.types import RunContext
from openai_compat.errors import APIError

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")
MOST_ITEMS = 512


class Item(Struct, frozen=True, kw_only=True):
    """One input, ready to run. ``lane`` says by which part of the model; ``length`` is in tokens, or patches of a picture."""

    lane: str
    length: int
    inputs: Any
    tokens: int = 0


Run = Callable[[str, list[Any]], Sequence[Any]]
"""Runs the inputs of one lane together: an output each, in order; an ``APIError`` where one alone went wrong."""


class Ticket(Deferred[ResultT]):
    """One request's items on their way; the result is made of their outputs once all are there."""

    def __init__(self, batcher: Batcher, ctx: RunContext, size: int, finish: Callable[[list[Any]], ResultT]) -> None:
        self.ctx = ctx
        self._batcher = batcher
        self._finish = finish
        self._outputs: list[Any] = [None] * size
        self._missing = size
        self._error: BaseException | None = None

    @property
    def driver(self) -> Batcher:
        return self._batcher

    @property
    def ended(self) -> bool:
        return self._missing == 0 or self._error is not None

    def put(self, index: int, output: Any) -> None:
        self._outputs[index] = output
        self._missing -= 1

    def fail(self, error: BaseException) -> None:
        self._error = self._error or error

    def poll(self) -> ResultT | None:
        if self._error is not None:
            raise self._error
        return self._finish(self._outputs) if self._missing == 0 else None


class _Waiting(Generic[ResultT]):
    """An item in the queue; ``key`` sorts by lane, then length, then arrival."""

    __slots__ = ("index", "item", "key", "ticket")

    def __init__(self, item: Item, ticket: Ticket[ResultT], index: int, order: int) -> None:
        self.item = item
        self.ticket = ticket
        self.index = index
        self.key = (item.lane, item.length, order)


class Batcher:
    """Belongs to the model's thread.

    Args:
        budget: tokens, padding included, that one forward may have; a single item may have more.
    """

    def __init__(self, run: Run, *, budget: int) -> None:
        self._run = run
        self._budget = budget
        self._queue: list[_Waiting[Any]] = []
        self._own: OrderedDict[Ticket[Any], list[_Waiting[Any]]] = OrderedDict()
        self._served: Ticket[Any] | None = None
        self._orders = 0

    def submit(self, items: Sequence[Item], ctx: RunContext, finish: Callable[[list[Any]], ResultT]) -> Ticket[ResultT]:
        """Raises what ``ctx`` raises."""
        ctx.check()
        ticket = Ticket(self, ctx, len(items), finish)
        waiting = [_Waiting(item, ticket, i, self._orders + i) for i, item in enumerate(items)]
        self._orders += len(items)
        waiting.sort(key=_key, reverse=True)
        self._own[ticket] = waiting
        if len(waiting) == 1:
            insort(self._queue, waiting[0], key=_key)
        else:
            self._queue += waiting
            self._queue.sort(key=_key)
        return ticket

    def step(self) -> None:
        """Run one batch of what waits."""
        self._drop_unwanted()
        if self._queue:
            ticket = self._next()
            self._hand_out(self._take(ticket))
            self._served = None if ticket.ended else ticket

    # ------------------------------------------------------------ choosing

    def _next(self) -> Ticket[Any]:
        """Whose turn it is. Only now is the one that had the last turn put behind those that came during it."""
        if self._served is not None and self._served in self._own:
            self._own.move_to_end(self._served)
        return next(ticket for ticket, own in self._own.items() if own)

    def _take(self, ticket: Ticket[Any]) -> list[_Waiting[Any]]:
        """Take the next batch out of the queue: neighbours of the longest item of the request whose turn it is."""
        where = bisect_left(self._queue, self._own[ticket][0].key, key=_key)
        start, stop = self._around(where)
        batch = self._queue[start:stop]
        del self._queue[start:stop]
        taken = set(map(id, batch))
        for owner in {waiting.ticket for waiting in batch}:
            self._own[owner] = [waiting for waiting in self._own[owner] if id(waiting) not in taken]
        return batch

    def _around(self, where: int) -> tuple[int, int]:
        """The stretch of the queue around an item that fits the budget, grown towards the nearer length first."""
        start, stop = where, where + 1
        lane, length, _ = self._queue[where].key
        longest = length
        while stop - start < MOST_ITEMS:
            below = self._gap(start - 1, lane, length)
            above = self._gap(stop, lane, length)
            fits_above = above is not None and (longest_above := length + above) * (stop - start + 1) <= self._budget
            fits_below = below is not None and longest * (stop - start + 1) <= self._budget
            if fits_above and (not fits_below or (above or 0) <= -(below or 0)):
                longest = longest_above
                stop += 1
            elif fits_below:
                start -= 1
            else:
                break
        return start, stop

    def _gap(self, index: int, lane: str, length: int) -> int | None:
        """How much longer the item at ``index`` is; None where there is none of this lane."""
        if not 0 <= index < len(self._queue) or self._queue[index].key[0] != lane:
            return None
        return self._queue[index].key[1] - length

    # ------------------------------------------------------------ running

    def _hand_out(self, batch: list[_Waiting[Any]]) -> None:
        try:
            outputs = self._run(batch[0].item.lane, [waiting.item.inputs for waiting in batch])
        except Exception as error:
            self._try_apart(batch, error)
            return
        for waiting, output in zip(batch, outputs, strict=True):
            self._settle(waiting, output)

    def _try_apart(self, batch: list[_Waiting[Any]], error: Exception) -> None:
        """What breaks a forward may belong to one request: each request's items are tried alone."""
        tickets = list(dict.fromkeys(waiting.ticket for waiting in batch))
        if len(tickets) == 1:
            self._drop(tickets[0], error)
            return
        logger.warning("a batch of %d requests failed; each is tried alone", len(tickets), exc_info=error)
        for ticket in tickets:
            self._hand_out([waiting for waiting in batch if waiting.ticket is ticket])

    def _settle(self, waiting: _Waiting[Any], output: Any) -> None:
        ticket = waiting.ticket
        if isinstance(output, APIError):
            self._drop(ticket, output)
            return
        ticket.put(waiting.index, output)
        if ticket.ended:
            self._own.pop(ticket, None)

    # ------------------------------------------------------------ ends

    def _drop_unwanted(self) -> None:
        for ticket in list(self._own):
            try:
                ticket.ctx.check()
            except Exception as error:
                self._drop(ticket, error)

    def _drop(self, ticket: Ticket[Any], error: BaseException) -> None:
        ticket.fail(error)
        if self._own.pop(ticket, None):
            self._queue = [waiting for waiting in self._queue if waiting.ticket is not ticket]


def _key(waiting: _Waiting[Any]) -> tuple[str, int, int]:
    return waiting.key
