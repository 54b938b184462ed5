"""`/v1/messages` behind its routes: each message is asked for as a chat."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from litestar.types import HTTPScope, Receive
from msgspec.structs import replace

from openai_compat.errors import APIError
from openai_compat.gateway.asking import Asker
from openai_compat.gateway.chats import PATH, Chats
from openai_compat.gateway.counting import Counter
from openai_compat.gateway.intake import Intake
from openai_compat.gateway.metering.estimate import prompt_tokens
from openai_compat.translate.anthropic.answer import Answering, frame
from openai_compat.translate.anthropic.refusals import again, known
from openai_compat.translate.anthropic.request import Turn, to_prompt, to_turn
from schemas.answers import ReadAnswer
from schemas.anthropic import CountMessageTokensRequest, CreateMessageRequest, MessageTokens
from schemas.anthropic_answers import AnthropicMessage

_ID = 12  # bytes of chance in an id


class MessageDesk:
    """Every method raises ``APIError`` for a refusal."""

    def __init__(self, chats: Chats, counter: Counter, intake: Intake) -> None:
        self._chats = chats
        self._counter = counter
        self._intake = intake

    async def read(self, scope: HTTPScope, receive: Receive) -> CreateMessageRequest:
        return await self._intake.read(scope, receive, CreateMessageRequest)

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
        request = await self._intake.read(scope, receive, CountMessageTokensRequest)
        prompt = to_prompt(request)
        try:
            return MessageTokens(input_tokens=await self._counter.count(prompt.chat, Asker.of(scope)))
        except APIError as error:
            raise known(prompt, error) from None

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
