"""`/v1/rerank`: wire ⇄ domain."""

from __future__ import annotations

from handlers.types import RankRequest, RankResult, Verb
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.common import Facts, Meta
from schemas.rerank import Document, RankedDocument, Rerank, RerankRequest, RerankUsage

ID_PREFIX = "rerank"
MAX_CHARACTERS = 4_000_000
_REFUSED = {
    "max_tokens_per_doc": "Send what counts of a document, or set 'truncate' to true: it is cut at the model's limit.",
    "max_chunks_per_doc": "Send the parts of a document as documents.",
    "rank_fields": "The 'text' of a document is what counts.",
}


def plan(body: RerankRequest) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    _check(body)
    return "rank_text"


def to_request(body: RerankRequest, facts: Facts) -> RankRequest:
    """Raises what ``plan`` raises."""
    _check(body)
    return RankRequest(
        query=body.query,
        documents=tuple(map(_text, body.documents)),
        truncate=body.truncate,
        mode=body.mode or facts.mode,
    )


def _check(body: RerankRequest) -> None:
    for param, reason in _REFUSED.items():
        if getattr(body, param) is not None:
            raise UnsupportedParameter(f"Unsupported parameter: '{param}'. {reason}", param=param)
    if not body.query:
        raise InvalidRequest("'query' must not be empty.", param="query")
    if not body.documents:
        raise InvalidRequest("'documents' must not be an empty list.", param="documents")
    texts = [_text(document) for document in body.documents]
    if "" in texts:
        raise InvalidRequest(f"Item {texts.index('')} of 'documents' is empty.", param="documents")
    # the query is read once for each document
    if sum(map(len, texts)) + len(body.query) * len(texts) > MAX_CHARACTERS:
        message = f"The documents, each with the query, are longer than {MAX_CHARACTERS} characters together."
        raise InvalidRequest(message, param="documents")


def _text(document: str | Document) -> str:
    return document if isinstance(document, str) else document.text


def to_response(result: RankResult, body: RerankRequest, meta: Meta) -> Rerank:
    """The best first; equal ones in the request's order."""
    order = sorted(range(len(result.scores)), key=lambda i: -result.scores[i])
    tokens = result.usage.prompt_tokens
    return Rerank(
        id=meta.id,
        model=meta.model,
        results=[_ranked(i, result, body) for i in order[: body.top_n]],
        usage=RerankUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _ranked(index: int, result: RankResult, body: RerankRequest) -> RankedDocument:
    score = result.scores[index]
    if not body.return_documents:
        return RankedDocument(index=index, relevance_score=score)
    return RankedDocument(index=index, relevance_score=score, document=Document(text=_text(body.documents[index])))
