"""`/v1/messages` behind its routes: each message is asked for as a chat."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import msgspec
from litestar.types import HTTPScope, Receive
from msgspec import Struct
from msgspec.structs import replace

from openai_compat.config import Config
from openai_compat.errors import APIError
from openai_compat.gateway.asking import Asker
from openai_compat.gateway.body import read_json_body
from openai_compat.gateway.chats import PATH, Chats
from openai_compat.gateway.counting import Counter
from openai_compat.gateway.metering.estimate import prompt_tokens
from openai_compat.sizes import parse_size
from openai_compat.translate.anthropic.answer import Answering, frame
from openai_compat.translate.anthropic.refusals import again, known
from openai_compat.translate.anthropic.request import Turn, to_prompt, to_turn
from schemas.answers import ReadAnswer
from schemas.anthropic import CountMessageTokensRequest, CreateMessageRequest, MessageTokens
from schemas.anthropic_answers import AnthropicMessage
from schemas.decode import decode

_ID = 12  # bytes of chance in an id
RequestT = TypeVar("RequestT", bound=Struct)


class MessageDesk:
    """``config`` gives the configuration in force. Every method raises ``APIError`` for a refusal."""

    def __init__(self, chats: Chats, counter: Counter, config: Callable[[], Config]) -> None:
        self._chats = chats
        self._counter = counter
        self._config = config

    async def read(self, scope: HTTPScope, receive: Receive) -> CreateMessageRequest:
        return await self._read(CreateMessageRequest, scope, receive)

    async def whole(self, request: CreateMessageRequest, scope: HTTPScope) -> AnthropicMessage:
        turn, asker = to_turn(request), Asker.of(scope)
        while True:
            try:
                answer = await self._chats.whole(turn.chat, asker)
            except APIError as error:
                turn, asker = again(turn, error), replace(asker, again=True)
            else:
                return _answering(request, turn).whole(answer)

    async def events(self, request: CreateMessageRequest, scope: HTTPScope) -> AsyncIterator[bytes]:
        """Framed. Left early, the model's work is cancelled."""
        turn, asker = to_turn(request), Asker.of(scope)
        async with self._begun(turn, asker) as (asked, chunks):
            answering = _answering(request, asked)
            yield b"".join(map(frame, answering.begin()))
            async for batch in chunks:
                if events := [event for chunk in batch for event in answering.add(chunk)]:
                    yield b"".join(map(frame, events))
            yield b"".join(map(frame, answering.finish()))

    async def count(self, scope: HTTPScope, receive: Receive) -> MessageTokens:
        request = await self._read(CountMessageTokensRequest, scope, receive)
        prompt = to_prompt(request)
        try:
            return MessageTokens(input_tokens=await self._counter.count(prompt.chat, Asker.of(scope)))
        except APIError as error:
            raise known(prompt, error) from None

    async def _read(self, type: type[RequestT], scope: HTTPScope, receive: Receive) -> RequestT:
        server = self._config().server
        limit = parse_size(server.max_body)
        return decode(await read_json_body(scope["headers"], receive, limit, origins=server.cors_origins), type)

    @asynccontextmanager
    async def _begun(self, turn: Turn, asker: Asker) -> AsyncIterator[tuple[Turn, AsyncIterator[list[ReadAnswer]]]]:
        """The first chat that is answered, and its chunks."""
        async with AsyncExitStack() as stack:
            while True:
                try:
                    chunks = await stack.enter_async_context(self._chats.stream(turn.chat, asker))
                except APIError as error:
                    turn, asker = again(turn, error), replace(asker, again=True)
                else:
                    break
            yield turn, chunks


def _answering(request: CreateMessageRequest, turn: Turn) -> Answering:
    about = prompt_tokens(PATH, msgspec.json.encode(turn.chat)) if request.stream else 0
    return Answering(turn, id=f"msg_{secrets.token_hex(_ID)}", model=request.model, prompt_tokens=about)
