import json

import pytest

from handlers.types import RankResult, Usage
from openai_compat.errors import InvalidRequest
from openai_compat.translate import rerank
from schemas.decode import decode
from schemas.rerank import RerankRequest


def body(**fields) -> RerankRequest:
    return decode(json.dumps({"model": "m", "query": "q", "documents": ["a", "b"], **fields}).encode(), RerankRequest)


def test_documents_are_texts_or_objects_with_one(facts):
    request = rerank.to_request(body(documents=["a", {"text": "b"}], truncate=True), facts)
    assert (request.query, request.documents, request.truncate) == ("q", ("a", "b"), True)
    assert rerank.plan(body()) == "rank_text"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "documents"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"query": "q" * 900_000, "documents": ["a"] * 5}, "documents"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"top_n": 0}, "top_n"),
        ({"query": None}, "query"),
        ({"max_tokens_per_doc": 100}, "max_tokens_per_doc"),
        ({"max_chunks_per_doc": 3}, "max_chunks_per_doc"),
        ({"rank_fields": ["title"]}, "rank_fields"),
    ],
)
def test_what_cannot_be_ranked_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        rerank.plan(body(**fields))
    assert caught.value.param == param


def test_results_come_best_first_and_equal_ones_in_order(meta):
    result = RankResult(scores=(0.2, 0.9, 0.2, 0.5), usage=Usage(prompt_tokens=9))
    answer = rerank.to_response(result, body(documents=list("abcd")), meta)
    assert [entry.index for entry in answer.results] == [1, 3, 0, 2]
    assert [entry.relevance_score for entry in answer.results] == [0.9, 0.5, 0.2, 0.2]
    assert answer.usage.total_tokens == 9


def test_top_n_and_return_documents_shape_the_answer(meta):
    result = RankResult(scores=(0.2, 0.9))
    (best,) = rerank.to_response(result, body(top_n=1, return_documents=True), meta).results
    assert (best.index, best.document.text) == (1, "b")
    both = rerank.to_response(result, body(top_n=10), meta).results
    assert len(both) == 2
    assert b"document" not in json.dumps([entry.index for entry in both]).encode()
    assert all(not entry.document for entry in both)
