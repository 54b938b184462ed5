"""`/tokenize` and `/detokenize`: requests and answers, as vLLM has them; what llama.cpp calls otherwise has both names."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schemas.chat import ChatCompletionRequest
from schemas.common import ModelName, TokenId
from schemas.messages import Messages

MAX_IDS = 131_072
Text = Annotated[str, Meta(max_length=1_000_000)]


class TokenizeRequest(ChatCompletionRequest, frozen=True, kw_only=True):
    """A text (``prompt``, or ``content`` as llama.cpp calls it), or a chat with every key that one has.

    ``add_special_tokens`` is vLLM's, and true unless the text is ``content``; ``add_special`` is llama.cpp's name for it.
    ``return_token_strs`` and ``with_pieces`` ask for each token's text, in the one server's shape and in the other's.
    """

    model: ModelName | None = None  # type: ignore[assignment]  # a chat needs one, a text may leave it out
    messages: Messages | None = None  # type: ignore[assignment]
    prompt: Text | None = None
    content: Text | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    return_token_strs: bool | None = None
    with_pieces: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class TokenPiece(Struct, frozen=True, kw_only=True):
    """A token as llama.cpp shows it."""

    id: int
    piece: str


class Tokenized(Struct, frozen=True, kw_only=True):
    """``max_model_len`` is the model's context in tokens, null where it has no end."""

    count: int
    max_model_len: int | None
    tokens: list[int | TokenPiece]
    token_strs: list[str] | None = None


class DetokenizeRequest(Struct, frozen=True, kw_only=True):
    model: ModelName | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=MAX_IDS)]


class Detokenized(Struct, frozen=True, kw_only=True):
    """``prompt`` is vLLM's name of the text, ``content`` llama.cpp's."""

    prompt: str
    content: str
