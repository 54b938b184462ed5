"""The OpenAPI page, made from the routes of this package."""

import json
import re
from collections.abc import Iterator

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from openai_compat.app import GATEWAY_ROUTES, MODEL_ROUTES, given, model_dependencies
from openai_compat.http.errors import exception_handlers
from openai_compat.http.openapi import openapi_config
from openai_compat.http.sse import StreamTiming

RELAYED = ["/v1/chat/completions", "/v1/completions"]


@pytest.fixture(scope="module")
def client():
    names = (
        "directory", "readiness", "happenings", "metrics_registry", "links", "usage_reader", "videos", "chats", "conversations",
        "counter", "decisions", "loads", "messages", "responses",
    )  # fmt: skip
    dependencies = {**model_dependencies(None, StreamTiming(), None), **{name: given(None) for name in names}}
    app = Litestar(
        [*MODEL_ROUTES, *GATEWAY_ROUTES],
        dependencies=dependencies,
        openapi_config=openapi_config("1.2.3"),
        exception_handlers=exception_handlers,
        logging_config=None,
    )
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def document(client) -> dict:
    return client.get("/schema/openapi.json").json()


def nodes(value) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def test_there_is_a_page_to_read(client):
    answer = client.get("/schema")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_the_page_fetches_nothing_and_runs_no_script(client):
    page = client.get("/schema").text
    assert "<script" not in page
    assert set(re.findall(r'(?:src|href)="([^#"][^"]*)"', page)) == {"/schema/openapi.json"}


def test_the_page_shows_operations_fields_and_bounds(client):
    page = client.get("/schema").text
    assert "<h2><code>POST /v1/chat/completions</code></h2><p>Answer a chat, whole or as a stream of chunks.</p>" in page
    assert "<td><code>temperature</code></td><td>number, ≥ 0, ≤ 2 or null</td>" in page
    for reference in re.findall(r'href="#(\w+)"', page):
        assert f'<p id="{reference}">' in page


@pytest.mark.parametrize("path", ["/schema/nope", "/schema/swagger", "/schema/a/b"])
def test_other_paths_under_it_are_not_found_in_openais_shape(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_it_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.2.3"


def test_every_reference_leads_somewhere(document):
    references = {node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)}
    assert len(references) > 20
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


@pytest.mark.parametrize("path", RELAYED)
def test_a_text_route_tells_its_body_both_answers_and_its_errors(document, path):
    operation = document["paths"][path]["post"]
    assert operation["requestBody"]["required"] is True
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("CompletionRequest")
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    for status in ("400", "401", "404", "413", "429", "500", "503"):
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
    assert "201" not in operation["responses"]


@pytest.mark.parametrize("path", RELAYED)
def test_what_is_injected_is_no_parameter(document, path):
    assert document["paths"][path]["post"].get("parameters", []) == []


def test_the_bounds_are_told(document):
    fields = document["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    assert fields["messages"]["minItems"] == 1
    assert fields["messages"]["maxItems"] == 2048
    for name, bounds in {"n": (1, 16), "temperature": (0, 2), "presence_penalty": (-2, 2), "top_logprobs": (0, 20)}.items():
        assert {(o["minimum"], o["maximum"]) for o in fields[name]["anyOf"] if "minimum" in o} == {bounds}


def test_every_number_and_list_of_a_chat_request_is_bounded(document):
    schemas = document["components"]["schemas"]
    seen, waiting = set(), ["ChatCompletionRequest", "CompletionRequest"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [node["$ref"].rpartition("/")[2] for node in nodes(schemas[name]) if isinstance(node.get("$ref"), str)]
    for name in seen:
        for node in nodes(schemas[name]["properties"]):
            if node.get("type") in ("integer", "number"):
                assert "maximum" in node, (name, node)
                assert "minimum" in node or "exclusiveMinimum" in node, (name, node)
            if node.get("type") == "array":
                assert "maxItems" in node, (name, node)


def test_the_id_of_a_model_is_a_path_parameter(document):
    (parameter,) = document["paths"]["/v1/models/{model_id}"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("model_id", "path", True)


def test_the_document_is_written_twice_alike(client, document):
    assert json.dumps(client.get("/schema/openapi.json").json()) == json.dumps(document)


def test_metrics_are_described_as_text(document):
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
