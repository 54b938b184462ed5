"""A request for a response, once all is known that needs no model: what it goes on from, and the chat that it becomes."""

from __future__ import annotations

from collections.abc import Callable

from litestar.types import HTTPScope, Receive
from msgspec import Struct, structs

from openai_compat.errors import InvalidRequest
from openai_compat.gateway.asking import Asker
from openai_compat.gateway.intake import Intake
from openai_compat.gateway.responses.history import Wanted
from openai_compat.gateway.responses.intake import named_in, owner_of, put_in
from openai_compat.gateway.responses.rows import Item, now
from openai_compat.gateway.responses.shelf import Shelf
from openai_compat.grants import Grant
from openai_compat.translate.responses import Answering, Turn, new_id, read_items, to_turn
from schemas.responses import CreateResponseRequest, InputTokensRequest, TurnFields

FindModel = Callable[[str, Grant], object]
"""Raises ``ModelNotFound``."""


class Order(Struct, frozen=True, kw_only=True):
    """``inputs`` are the request's own items, ``until`` is the last item of the conversation that the model is shown.

    ``keeps`` is whether the response is to be stored; a conversation that is named gets its items in any case.
    """

    id: str
    created: int
    owner: str
    request: CreateResponseRequest
    turn: Turn
    inputs: list[Item]
    conversation: str | None
    until: int
    keeps: bool
    asker: Asker

    def answering(self) -> Answering:
        return Answering(self.request, self.turn, id=self.id, created=self.created, conversation=self.conversation)


class Orders:
    """Makes orders of requests. Every method raises ``APIError`` for what is wrong with one."""

    def __init__(self, shelf: Shelf, intake: Intake, find_model: FindModel) -> None:
        self._shelf = shelf
        self._intake = intake
        self._find_model = find_model

    async def read(self, scope: HTTPScope, receive: Receive) -> Order:
        given = await self._intake.read(scope, receive, CreateResponseRequest)
        keeps = self._shelf.keeps and given.store is not False
        request = structs.replace(given, store=keeps)
        owner, conversation = owner_of(scope), _conversation_of(request)
        if keeps or conversation is not None:
            await self._shelf.open()  # what cannot be kept is known before a model is asked
        turn, inputs, until = await self._turn(request, owner)
        asker = Asker.of(scope)
        if request.background:
            self._find_model(request.model, asker.grant)
        return Order(
            id=new_id("resp"),
            created=now(),
            owner=owner,
            request=request,
            turn=turn,
            inputs=inputs,
            conversation=conversation,
            until=until,
            keeps=keeps,
            asker=asker,
        )

    async def read_count(self, scope: HTTPScope, receive: Receive) -> Turn:
        """The chat whose tokens are to be counted."""
        request = await self._intake.read(scope, receive, InputTokensRequest)
        turn, _, _ = await self._turn(request, owner_of(scope))
        return turn

    async def _turn(self, request: TurnFields, owner: str) -> tuple[Turn, list[Item], int]:
        """With the request's own items, and the number of the last item of its conversation."""
        _check_origin(request)
        inputs = read_items(request.input)
        wanted = Wanted(
            owner=owner,
            previous=request.previous_response_id,
            conversation=_conversation_of(request),
            named=named_in(inputs),
            longest=self._intake.max_body,
        )
        found = await self._shelf.history(wanted)
        inputs = put_in(inputs, found.named)
        return to_turn(request, found.history, inputs), inputs, found.until


def _conversation_of(request: TurnFields) -> str | None:
    named = request.conversation
    return named if named is None or isinstance(named, str) else named.id


def _check_origin(request: TurnFields) -> None:
    if request.previous_response_id is not None and request.conversation is not None:
        message = "'previous_response_id' and 'conversation' cannot be given together."
        raise InvalidRequest(message, param="conversation")
