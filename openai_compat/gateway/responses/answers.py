"""Having an order answered: the chat is asked for, its answer becomes a response, and what there is to keep is kept.

It is kept before the client reads the end of it, so that the next request can go on from it at once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

from msgspec import structs

from openai_compat.errors import APIError
from openai_compat.gateway.chats import Chats
from openai_compat.gateway.responses.orders import Order
from openai_compat.gateway.responses.records import FINISHED_WELL, draft_of
from openai_compat.gateway.responses.shelf import Shelf
from openai_compat.translate.responses import Turn, frame, param_of, shorter
from schemas.answers import ReadAnswer
from schemas.responses_answer import Event, Response

logger = logging.getLogger(__name__)
_TOO_LONG = "context_length_exceeded"
_HIDDEN = APIError("The server had an error while it made the response.")


class Answers:
    """Every method raises ``APIError`` for an order that comes to nothing before its answer has begun."""

    def __init__(self, chats: Chats, shelf: Shelf) -> None:
        self._chats = chats
        self._shelf = shelf

    async def whole(self, order: Order) -> Response:
        answering, turn, asker = order.answering(), order.turn, order.asker
        answer = None
        while answer is None:
            try:
                answer = await self._chats.whole(turn.chat, asker)
            except APIError as error:
                turn, asker = _shortened(order, turn, error), structs.replace(asker, again=True)
        answering.begin()
        answering.add(answer)
        answering.finish()
        return await self.keep(order, answering.response)

    async def stream(self, order: Order) -> AsyncIterator[bytes]:
        """Framed events, as many at a time as came at once. Left early, the model's work ends, and what there is is kept."""
        answering, final, begun = order.answering(), list[Event](), False
        try:
            async with AsyncExitStack() as stack:
                chunks = await self.opened(order, stack)
                begun = True
                yield framed(answering.begin())
                async for batch in chunks:
                    yield framed([event for chunk in batch for event in answering.add(chunk)])
            final = answering.finish()
        except (asyncio.CancelledError, GeneratorExit):
            if begun:
                answering.cancel()
                await self.keep(order, answering.response)
            raise
        except Exception as error:
            if not begun:
                raise
            final = answering.fail(known(error, order.id))
        yield framed(told(final, await self.keep(order, answering.response)))

    async def opened(self, order: Order, stack: AsyncExitStack) -> AsyncIterator[list[ReadAnswer]]:
        """The chunks of the answer, once the model has begun it; leaving ``stack`` ends its work."""
        turn, asker = order.turn, order.asker
        while True:
            try:
                return await stack.enter_async_context(self._chats.stream(turn.chat, asker))
            except APIError as error:
                turn, asker = _shortened(order, turn, error), structs.replace(asker, again=True)

    async def keep(self, order: Order, response: Response) -> Response:
        """The response as its client is to be told of it: one that could not be kept says so."""
        conversation = order.conversation if response.status in FINISHED_WELL else None
        try:
            if order.keeps:
                there = await self._shelf.add(draft_of(order, response, expires=self._shelf.expires), conversation)
            elif conversation is not None:
                there = await self._shelf.append(conversation, order.owner, [*order.inputs, *response.output])
            else:
                return response
        except (APIError, sqlite3.Error) as error:
            logger.warning("the response %s was answered but not kept: %s", order.id, error)
            return structs.replace(response, store=False, conversation=None)
        return response if there else structs.replace(response, conversation=None)


def framed(events: Sequence[Event]) -> bytes:
    return b"".join(map(frame, events))


def told(events: list[Event], response: Response) -> list[Event]:
    """The last events of an answer, the very last of which has the response as it became."""
    return [*events[:-1], structs.replace(events[-1], response=response)]


def known(error: Exception, id: str) -> APIError:
    """What a client may know of it; what is no error of ours is told to the log."""
    if isinstance(error, APIError):
        return error
    logger.error("the response %s failed", id, exc_info=error)
    return _HIDDEN


def _shortened(order: Order, turn: Turn, error: APIError) -> Turn:
    """A shorter turn to try where the client wants that. Raises ``error`` else, naming what the client wrote."""
    if order.request.truncation == "auto" and error.code == _TOO_LONG and (shorter_turn := shorter(turn)) is not None:
        return shorter_turn
    if error.param is not None and (param := param_of(turn, error.param)) != error.param:
        error.message, error.param = error.message.replace(f"'{error.param}'", f"'{param}'"), param
    raise error
