"""Embeddings, by OpenAI's Python SDK and by curl."""

from __future__ import annotations

import base64
import struct
from math import isclose, sqrt
from typing import Any

import openai
import pytest
from kit.checks import checks
from kit.curl import Curl
from kit.expect import assert_error, unless_refused
from kit.server import Server

check = checks("openai-python", needs=("embeddings", "embedding-model"))
by_curl = checks("curl", needs=("embeddings", "embedding-model"))
TEXTS = ["The cat sits on the mat.", "A feline rests upon a rug.", "Stocks fell sharply on Monday."]


def ask(client: Any, server: Server, texts: Any, **fields: Any) -> Any:
    return client.embeddings.create(model=server.embedding_model, input=texts, **fields)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / sqrt(sum(a * a for a in one) * sum(b * b for b in other))


@check("embeddings.default", "The SDK, which asks for base64, gets vectors that mean something: like texts lie close.")
def check_default(server: Server, openai_client: Any) -> None:
    vectors = [item.embedding for item in ask(openai_client, server, TEXTS).data]
    assert len({len(vector) for vector in vectors}) == 1
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])


@check("embeddings.order", "The vectors of a list come in its order, each with its index, and are those of each text alone.")
def check_order(server: Server, openai_client: Any) -> None:
    together = ask(openai_client, server, TEXTS).data
    assert [item.index for item in together] == [0, 1, 2]
    alone = [ask(openai_client, server, text).data[0].embedding for text in TEXTS]
    assert all(cosine(item.embedding, other) > 0.999 for item, other in zip(together, alone, strict=True))


@by_curl("embeddings.base64", "base64 is little-endian float32, the same numbers as `float` gives.")
def check_base64(curl: Curl, server: Server) -> None:
    asked = {"model": server.embedding_model, "input": TEXTS[0]}
    packed = curl.post("/embeddings", {**asked, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert isinstance(packed, str), "base64 was ignored: OpenAI's JavaScript SDK would read nonsense"
    data = base64.b64decode(packed, validate=True)
    numbers = struct.unpack(f"<{len(data) // 4}f", data)
    plain = curl.post("/embeddings", {**asked, "encoding_format": "float"}).json()["data"][0]["embedding"]
    assert len(plain) == len(numbers)
    assert all(isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(plain, numbers, strict=True))


@check("embeddings.dimensions", "dimensions gives a vector of that length and of length one, or is refused.")
def check_dimensions(server: Server, openai_client: Any) -> None:
    with unless_refused("dimensions"):
        vector = ask(openai_client, server, TEXTS[0], dimensions=64).data[0].embedding
    assert len(vector) == 64, "ignored"
    assert isclose(sum(number * number for number in vector), 1, rel_tol=1e-2)


@check("embeddings.dimensions.too-many", "More dimensions than the model has are a 400.")
def check_too_many(server: Server, openai_client: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(openai_client, server, TEXTS[0], dimensions=1_000_000)


@check("embeddings.tokens", "Token ids, as LangChain sends them, are read as cl100k_base's, or refused; not taken for others.")
def check_tokens(server: Server, openai_client: Any) -> None:
    ids = [791, 8415, 23874, 389, 279, 5634, 13]  # the first text in cl100k_base
    with unless_refused("input", "token"):
        vector = ask(openai_client, server, [ids]).data[0].embedding
    assert cosine(vector, ask(openai_client, server, TEXTS[0]).data[0].embedding) > 0.99, (
        "another text's vector, without an error"
    )


@check("embeddings.usage", "usage counts the tokens of the texts.")
def check_usage(server: Server, openai_client: Any) -> None:
    usage = ask(openai_client, server, TEXTS).usage
    assert usage.total_tokens == usage.prompt_tokens > 10


@by_curl("embeddings.empty", "An empty text and an empty list are a 400.")
def check_empty(curl: Curl, server: Server) -> None:
    for nothing in ("", []):
        assert_error(curl.post("/embeddings", {"model": server.embedding_model, "input": nothing}), 400)


@by_curl("embeddings.error.model", "An unknown model is a 404 with the code model_not_found.")
def check_unknown_model(curl: Curl) -> None:
    body = {"model": "no-such-model-anywhere", "input": "Hi"}
    assert_error(curl.post("/embeddings", body), 404, code="model_not_found")


@check("embeddings.many", "A hundred texts at once are embedded.")
def check_many(server: Server, openai_client: Any) -> None:
    assert len(ask(openai_client, server, [f"Text {number}" for number in range(100)]).data) == 100
