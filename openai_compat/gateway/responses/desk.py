"""`/v1/responses` behind its routes. A response belongs to the key that asked for it, and to any other does not exist."""

from __future__ import annotations

from collections.abc import AsyncIterator

from litestar.types import HTTPScope, Receive

from openai_compat.config import Config
from openai_compat.errors import InvalidRequest, NotFound
from openai_compat.gateway.asking import Asker
from openai_compat.gateway.chats import Chats
from openai_compat.gateway.counting import Counter
from openai_compat.gateway.intake import Intake
from openai_compat.gateway.responses.answers import Answers
from openai_compat.gateway.responses.background import Background, Still
from openai_compat.gateway.responses.intake import listed_page
from openai_compat.gateway.responses.orders import FindModel, Order, Orders
from openai_compat.gateway.responses.records import record_of, shown
from openai_compat.gateway.responses.replay import replayed
from openai_compat.gateway.responses.rows import Item, Row
from openai_compat.gateway.responses.shelf import Shelf
from schemas.conversations import ItemsQuery
from schemas.responses_answer import InputTokens, ItemList, Response, ResponseDeleted


class ResponseDesk:
    def __init__(
        self,
        config: Config,
        shelf: Shelf,
        intake: Intake,
        chats: Chats,
        counter: Counter,
        find_model: FindModel,
        still: Still,
    ) -> None:
        self._shelf = shelf
        self._orders = Orders(shelf, intake, find_model)
        self._answers = Answers(chats, shelf)
        self._background = Background(config, shelf, self._answers, still)
        self._counter = counter

    async def start(self) -> None:
        await self._background.start()

    async def close(self) -> None:
        await self._background.close()

    # ------------------------------------------------------------ asking

    async def read(self, scope: HTTPScope, receive: Receive) -> Order:
        """Raises ``APIError`` for whatever is wrong with the request and needs no model to know."""
        return await self._orders.read(scope, receive)

    async def whole(self, order: Order) -> Response:
        """Raises ``APIError``. Cancelled, it ends the model's work."""
        return await self._answers.whole(order)

    def stream(self, order: Order) -> AsyncIterator[bytes]:
        """Framed events; raises ``APIError`` before the first one where the model does not begin."""
        return self._answers.stream(order)

    async def put(self, order: Order) -> Response:
        """Have it made in the background."""
        return (await self._background.put(order)).response

    async def put_and_stream(self, order: Order) -> AsyncIterator[bytes]:
        """The same, with its events as they come; it goes on where nobody reads them."""
        return (await self._background.put(order)).log.read(-1)

    async def count(self, scope: HTTPScope, receive: Receive) -> InputTokens:
        """How many tokens the input of such a request would be."""
        turn = await self._orders.read_count(scope, receive)
        return InputTokens(input_tokens=await self._counter.count(turn.chat, Asker.of(scope)))

    # ------------------------------------------------------------ what is kept

    async def get(self, id: str, owner: str) -> Response:
        if (job := self._background.find(id, owner)) is not None:
            return job.response
        row, output = await self._find(id, owner)
        return shown(row, output)

    async def events(self, id: str, owner: str, after: int) -> AsyncIterator[bytes]:
        """Those after the one numbered ``after``. Raises ``InvalidRequest`` where its client waited for it."""
        if (job := self._background.find(id, owner)) is not None:
            job.log.check(after)
            return job.log.read(after)
        row, output = await self._find(id, owner)
        response = shown(row, output)
        if not response.background:
            message = "Only a response that was made in the background can be streamed again."
            raise InvalidRequest(message, param="stream", code="not_in_background")
        return _given([b"".join(replayed(response, record_of(row).last, after))])

    async def cancel(self, id: str, owner: str) -> Response:
        """As it is then; one that is finished stays as it was."""
        if self._background.find(id, owner) is not None:
            await self._background.cancel(id)
            return await self.get(id, owner)
        row, output = await self._find(id, owner)
        response = shown(row, output)
        if not response.background:
            raise InvalidRequest("Cannot cancel a synchronous response.", code="not_in_background")
        return response

    async def delete(self, id: str, owner: str) -> ResponseDeleted:
        """Whatever state it is in; what is being made of it ends."""
        if self._background.find(id, owner) is not None:
            await self._background.cancel(id)
        await self._find(id, owner)
        self._background.forget(id)
        await self._shelf.remove(id)
        return ResponseDeleted(id=id)

    async def input_items(self, id: str, owner: str, query: ItemsQuery) -> ItemList:
        """What the request itself brought; what it went on from is listed where that was asked for."""
        await self._find(id, owner)
        ascending = query.order == "asc"
        return listed_page(await self._shelf.page(id, "input", after=query.after, limit=query.limit, ascending=ascending))

    async def _find(self, id: str, owner: str) -> tuple[Row, list[Item]]:
        found = await self._shelf.find_response(id, owner)
        if found is None:
            raise NotFound(f"Response with id '{id[:100]}' not found.", param="response_id")
        return found


async def _given(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if piece:
            yield piece
