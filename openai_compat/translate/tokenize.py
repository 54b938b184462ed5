"""`/tokenize` and `/detokenize`: wire ⇄ domain."""

from __future__ import annotations

from handlers.types import TokenRequest, TokenResult, Verb
from openai_compat.errors import InvalidRequest
from openai_compat.translate import chat
from openai_compat.translate.attachments import Attachment, Media
from openai_compat.translate.common import Facts, Refusal, refuse
from schemas.tokenize import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest, TokenPiece

_SOURCES = ("messages", "prompt", "content")
REFUSED: tuple[Refusal, ...] = (
    Refusal("parse_special", "Control tokens in a text are read as such.", lambda b: b.parse_special is False),
    Refusal(
        "add_generation_prompt",
        "A chat is counted as it would be answered.",
        lambda b: b.messages is not None and b.add_generation_prompt is False,
    ),
    Refusal("continue_final_message", "A chat is counted as it would be answered.", lambda b: bool(b.continue_final_message)),
    Refusal(
        "add_special_tokens",
        "The model's chat template says what a chat begins with.",
        lambda b: b.messages is not None and bool(b.add_special_tokens),
    ),
    Refusal(
        "add_special",
        "The model's chat template says what a chat begins with.",
        lambda b: b.messages is not None and bool(b.add_special),
    ),
)


def plan(body: TokenizeRequest) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    _check(body)
    if body.messages is not None:
        chat.plan(body)
    return "tokenize_text"


def remote(body: TokenizeRequest) -> str | None:
    """The first field that has its file on another server."""
    return None if body.messages is None else chat.remote(body)


def attachments_to_decode(body: TokenizeRequest) -> tuple[Attachment, ...]:
    return () if body.messages is None else chat.attachments_to_decode(body)


def to_request(body: TokenizeRequest, facts: Facts, media: Media) -> TokenRequest:
    """Raises what ``plan`` raises."""
    _check(body)
    spelled = bool(body.return_token_strs or body.with_pieces)
    if body.messages is not None:
        return TokenRequest(chat=chat.to_request(body, facts, media), spelled=spelled)
    text = body.content if body.prompt is None else body.prompt
    return TokenRequest(text=text or "", start=_starts(body), spelled=spelled)


def _check(body: TokenizeRequest) -> None:
    given = [name for name in _SOURCES if getattr(body, name) is not None]
    if not given:
        raise InvalidRequest("Send 'prompt', a text, or 'messages', a chat.", param="prompt", code="missing_required_parameter")
    if len(given) > 1:
        raise InvalidRequest(f"Send '{given[0]}' or '{given[1]}', not both.", param=given[1])
    refuse(body, REFUSED)


def _starts(body: TokenizeRequest) -> bool:
    """The two servers have different defaults."""
    told = body.add_special if body.add_special_tokens is None else body.add_special_tokens
    return body.content is None if told is None else told


def to_response(result: TokenResult, body: TokenizeRequest) -> Tokenized:
    ids = list(result.ids)
    pieces = list(result.pieces or ())
    return Tokenized(
        count=len(ids),
        max_model_len=result.context_length,
        tokens=[*map(_piece, ids, pieces)] if body.with_pieces else [*ids],
        token_strs=pieces if body.return_token_strs else None,
    )


def _piece(number: int, piece: str) -> TokenPiece:
    return TokenPiece(id=number, piece=piece)


def plan_back(body: DetokenizeRequest) -> Verb:
    return "tokenize_text"


def to_request_back(body: DetokenizeRequest) -> TokenRequest:
    return TokenRequest(ids=tuple(body.tokens))


def to_response_back(result: TokenResult) -> Detokenized:
    return Detokenized(prompt=result.text, content=result.text)
