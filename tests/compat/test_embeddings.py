"""Vectors as clients ask for them: the openai packages with their own defaults, LangChain, LlamaIndex, plain HTTP."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

MODEL = "all-minilm-l6-v2"
PATH = "/v1/embeddings"
TEXTS = ["That is a happy person", "naïve café 😀"]
CL100K = [[4897, 374, 264, 6380, 1732], [3458, 38672, 588, 53050, 91416]]
"""The same texts by tiktoken, which is what LangChain's ``OpenAIEmbeddings`` sends for a model whose name it does not know."""
CARD = [0.06766, 0.06350, 0.04871, 0.07930]
"""The first numbers of "This is an example sentence", from the model's card."""


@pytest.fixture(scope="module")
def vector_server(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Any]:
    """A server of its own: the default encoder, the same one as other operators may set it, and an echo."""
    folder = tmp_path_factory.mktemp("vectors")
    config, nothing = folder / "config.toml", folder / "nothing"
    nothing.mkdir()
    source = json.dumps(str(minilm_folder))
    config.write_text(
        f'[models.{MODEL}]\nsource = {source}\nthreads = 1\ndtype = "float32"\n'
        f"[models.cut]\nsource = {source}\nthreads = 1\n"
        '[models.cut.options]\ntruncate = true\nmatryoshka = [64]\ntoken_ids = "native"\nprompts = { query = "query: " }\n'
        f'[models.echo]\nsource = {json.dumps(str(nothing))}\nkind = "echo"\n'
    )
    running = type(server)(config, folder)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def sdk(vector_server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=vector_server.base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def plain(vector_server: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=vector_server.origin, timeout=120) as client:
        yield client


def vectors(answer: Any) -> list[list[float]]:
    assert [entry.index for entry in answer.data] == list(range(len(answer.data)))
    return [entry.embedding for entry in answer.data]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_the_python_package_gets_the_model_s_vector(sdk: openai.OpenAI) -> None:
    answer = sdk.embeddings.create(model=MODEL, input="This is an example sentence")
    (vector,) = vectors(answer)
    assert vector[:4] == pytest.approx(CARD, abs=1e-4)
    assert (len(vector), answer.model) == (384, MODEL)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 7)


def test_floats_and_base64_are_the_same_numbers(plain: httpx2.Client) -> None:
    body = {"model": MODEL, "input": TEXTS}
    floats = plain.post(PATH, json=body).json()["data"]
    packed = plain.post(PATH, json={**body, "encoding_format": "base64"}).json()["data"]
    for one, other in zip(floats, packed, strict=True):
        assert list(struct.unpack("<384f", base64.b64decode(other["embedding"]))) == one["embedding"]


def test_langchain_s_token_ids_give_the_vectors_of_its_texts(sdk: openai.OpenAI) -> None:
    by_ids = vectors(sdk.embeddings.create(model=MODEL, input=CL100K))
    by_text = vectors(sdk.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float"))
    assert [dot(one, other) for one, other in zip(by_ids, by_text, strict=True)] == pytest.approx([1, 1], abs=1e-5)
    (alone,) = vectors(sdk.embeddings.create(model=MODEL, input=CL100K[0]))
    assert dot(alone, by_text[0]) == pytest.approx(1, abs=1e-5)


def test_llama_index_s_batches_of_ten_are_answered_in_order(sdk: openai.OpenAI) -> None:
    texts = [f"weather number {i}, " + "rain " * (1 + i % 4) for i in range(10)]
    together = vectors(sdk.embeddings.create(model=MODEL, input=texts, user="u"))
    for text, vector in zip(texts, together, strict=True):
        assert dot(vectors(sdk.embeddings.create(model=MODEL, input=[text]))[0], vector) == pytest.approx(1, abs=1e-5)


def test_many_clients_at_once_get_their_own_vectors(sdk: openai.OpenAI) -> None:
    texts = [f"client number {i} asks about {'rivers and ' * (i % 5)}bread" for i in range(24)]
    alone = [vectors(sdk.embeddings.create(model=MODEL, input=text))[0] for text in texts]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda text: vectors(sdk.embeddings.create(model=MODEL, input=text))[0], texts))
    assert [dot(one, other) for one, other in zip(alone, found, strict=True)] == pytest.approx([1] * len(texts), abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ""}, "input", None),
        ({"input": []}, "input", None),
        ({"input": ["a", ""]}, "input", None),
        ({"input": "word " * 300}, "input", "context_length_exceeded"),
        ({"input": [100_257]}, "input", None),
        ({"input": "a", "dimensions": 64}, "dimensions", None),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"input": "a", "prompt_name": "query"}, "prompt_name", None),
        (
            {"input": [{"image_url": "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAAC"}]},
            "model",
            "unsupported_capability",
        ),
    ],
)
def test_what_cannot_be_done_is_a_400_that_names_the_field(
    plain: httpx2.Client, fields: dict[str, Any], param: str, code: str | None
) -> None:
    answer = plain.post(PATH, json={"model": MODEL, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)


def test_an_operator_s_settings_are_kept_to(sdk: openai.OpenAI) -> None:
    (cut,) = vectors(sdk.embeddings.create(model="cut", input="word " * 300, dimensions=64))
    assert (len(cut), dot(cut, cut)) == (64, pytest.approx(1, abs=1e-5))
    native = [101, 7592, 2088, 102]
    by_ids, by_text = (vectors(sdk.embeddings.create(model="cut", input=value))[0] for value in (native, "hello world"))
    assert dot(by_ids, by_text) == pytest.approx(1, abs=1e-3)
    asked = vectors(sdk.embeddings.create(model="cut", input="fox", extra_body={"input_type": "query"}))
    written = vectors(sdk.embeddings.create(model="cut", input="query: fox"))
    by_name = vectors(sdk.embeddings.create(model="cut:query", input="fox"))
    assert [dot(vector, written[0]) for vector in (asked[0], by_name[0])] == pytest.approx([1, 1], abs=1e-3)


def test_documents_are_ranked(plain: httpx2.Client) -> None:
    body = {"model": "echo", "query": "red fox", "documents": ["blue car", "the red fox"], "top_n": 1, "return_documents": True}
    (best,) = plain.post("/v1/rerank", json=body).json()["results"]
    assert best == {"index": 1, "relevance_score": 1.0, "document": {"text": "the red fox"}}
    refused = plain.post("/v1/rerank", json={**body, "model": MODEL})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_capability")


def test_the_node_package_decodes_the_model_s_vector(vector_server: Any, node_folder: Path) -> None:
    """It asks for base64 by itself and decodes whatever comes as such."""
    command = ["node", "client.mjs", vector_server.base_url, MODEL, "embedding"]
    done = subprocess.run(command, cwd=node_folder, check=True, capture_output=True, timeout=120)
    seen = json.loads(done.stdout)
    assert seen["first"] == pytest.approx(CARD, abs=1e-4)
    assert (seen["length"], seen["tokens"]) == (384, 7)
    assert (seen["bad"]["status"], seen["bad"]["param"]) == (400, "input")
