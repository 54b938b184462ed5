"""How many tokens a chat is, asked for in other shapes: of the model's own tokenizer where it runs here, else about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from openai_compat.errors import APIError, kind_of
from openai_compat.gateway.asking import Asker, Asking
from openai_compat.gateway.chats import encoded
from openai_compat.gateway.metering.estimate import prompt_tokens

PATH = "/tokenize"
_CHATS = "/v1/chat/completions"
_NOT_HERE = "unsupported_capability"


class _Counted(Struct, frozen=True):
    count: int


_counted = msgspec.json.Decoder(_Counted)


class Counter:
    """Counts chats before they are asked for. A count is a request as any other, but takes no tokens from a key's limits."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def count(self, chat: Mapping[str, Any], asker: Asker) -> int:
        """``chat`` is a body of `/v1/chat/completions`; the count is the ``prompt_tokens`` of its answer, which is not made.

        Upstreams have no common way to ask them, so of their models, and of others without a tokenizer, the count is an
        estimate from bytes. Raises ``APIError`` for a refusal: of the model, the messages, or by the key's limits.
        """
        body = encoded({**chat, "stream": False})
        try:
            async with self._asking.open(PATH, body, asker) as reply:
                return _counted.decode(await reply.read()).count
        except APIError as error:
            if (error.code or kind_of(error).code) != _NOT_HERE:
                raise
        return prompt_tokens(_CHATS, body)
