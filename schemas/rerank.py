"""`/v1/rerank`: request and answer, in the shape that Cohere and Jina share."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import Label, Mode, ModelName, TokenCount

MAX_DOCUMENTS = 2048
Text = Annotated[str, Meta(max_length=1_000_000)]


class Document(Struct, frozen=True, kw_only=True):
    text: Text


class RerankRequest(Struct, frozen=True, kw_only=True):
    """``top_n`` is how many of the results are sent, the best first; all of them if it is left out.

    The last group of fields is Cohere's, and refused.
    """

    model: ModelName
    query: Text
    documents: Annotated[list[Text | Document], Meta(max_length=MAX_DOCUMENTS)]
    top_n: TokenCount | None = None
    return_documents: bool | None = None
    truncate: bool | None = None
    mode: Mode | None = None
    user: Label | None = None

    max_tokens_per_doc: Any = None
    max_chunks_per_doc: Any = None
    rank_fields: Any = None


class RankedDocument(Struct, frozen=True, kw_only=True):
    """``index`` is the document's place in the request; ``relevance_score`` is from 0 to 1."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class RerankUsage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class Rerank(Struct, frozen=True, kw_only=True):
    id: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage
