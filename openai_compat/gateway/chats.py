"""Chats asked for in other shapes: the request as `/v1/chat/completions` has it, the answer as Structs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from openai_compat.errors import APIError, InvalidRequest
from openai_compat.gateway.asking import Asker, Asking, Reply
from openai_compat.gateway.refusals import error_of
from openai_compat.gateway.upstreams.framing import Framing, TooLong
from schemas.answers import ReadAnswer
from schemas.common import ErrorResponse

PATH = "/v1/chat/completions"
_DATA = b"data:"
_DONE = b"[DONE]"
_FAILED = 500
_UNREADABLE = "The model's answer could not be read."
_answer = msgspec.json.Decoder(ReadAnswer, strict=False)
_error = msgspec.json.Decoder(ErrorResponse)


class Chats:
    """Asks for chats. Every method raises ``APIError`` for a refusal, and for an answer that ends by an error."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def whole(self, chat: Mapping[str, Any], asker: Asker) -> ReadAnswer:
        """``chat`` is a request's body; it is asked for without a stream."""
        body = encoded({**chat, "stream": False})
        async with self._asking.open(PATH, body, asker) as reply:
            return _read(await reply.read())

    @asynccontextmanager
    async def stream(self, chat: Mapping[str, Any], asker: Asker) -> AsyncIterator[AsyncIterator[list[ReadAnswer]]]:
        """The chunks as they come, as many at a time as came in one piece; the last of all has the usage.

        Once this is entered the model has begun to answer. Leaving early cancels its work.
        """
        body = encoded({**chat, "stream": True, "stream_options": {"include_usage": True}})
        async with self._asking.open(PATH, body, asker) as reply, aclosing(_chunks(reply)) as chunks:
            yield chunks


def encoded(chat: Mapping[str, Any]) -> bytes:
    """The body's bytes. Raises ``InvalidRequest`` for a client's JSON that could just be read, and is one level deeper here."""
    try:
        return msgspec.json.encode(chat)
    except RecursionError:
        raise InvalidRequest("The JSON of the request body is nested too deeply.", code="invalid_json") from None


async def _chunks(reply: Reply) -> AsyncGenerator[list[ReadAnswer], None]:
    """What came before a failure is given first."""
    framing = Framing()
    try:
        async with aclosing(reply.chunks()) as pieces:
            async for piece in pieces:
                for found in _events(framing.feed(piece)):
                    yield found
    except TooLong:
        raise APIError(_UNREADABLE) from None
    for found in _events(framing.rest()):
        yield found


def _events(block: bytes) -> Iterator[list[ReadAnswer]]:
    """Raises ``APIError`` for an error event, after what came before it."""
    found: list[ReadAnswer] = []
    try:
        for line in block.split(b"\n"):
            text = line[len(_DATA) :].strip() if line.startswith(_DATA) else b""
            if text and text != _DONE:
                found.append(_read(text))
    except APIError:
        if found:
            yield found
        raise
    if found:
        yield found


def _read(text: bytes) -> ReadAnswer:
    if b'"error"' in text and (failure := _failure(text)) is not None:
        raise failure
    try:
        return _answer.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise APIError(_UNREADABLE) from None


def _failure(text: bytes) -> APIError | None:
    try:
        return error_of(_FAILED, _error.decode(text).error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
