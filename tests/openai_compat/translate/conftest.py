import json
from pathlib import Path

import pytest

from openai_compat.protocol import RelayFacts
from openai_compat.translate import chat, completions
from openai_compat.translate.attachments import stand_ins
from openai_compat.translate.common import Meta
from schemas.chat import ChatCompletionRequest
from schemas.completions import CompletionRequest
from schemas.decode import decode

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def facts() -> RelayFacts:
    return RelayFacts(request_id="r-1", model="canonical", public_model="asked-for", cache_salt="salt")


@pytest.fixture
def meta() -> Meta:
    return Meta(id="chatcmpl-1", created=1_790_000_000, model='asked-for "ü"')


@pytest.fixture
def chat_body():
    def make(**fields) -> ChatCompletionRequest:
        return decode(json.dumps({"model": "m", "messages": HELLO, **fields}).encode(), ChatCompletionRequest)

    return make


@pytest.fixture
def chat_request(chat_body, facts):
    def make(**fields):
        body = chat_body(**fields)
        return chat.to_request(body, facts, stand_ins(chat.attachments_to_decode(body)))

    return make


@pytest.fixture
def completion_body():
    def make(**fields) -> CompletionRequest:
        return decode(json.dumps({"model": "m", "prompt": "Once", **fields}).encode(), CompletionRequest)

    return make


@pytest.fixture
def completion_request(completion_body, facts):
    return lambda **fields: completions.to_request(completion_body(**fields), facts)


@pytest.fixture(scope="session")
def published() -> dict:
    return json.loads((Path(__file__).parents[2] / "schemas" / "published.json").read_text())["schemas"]


def _problems(value, schema, schemas, where="$"):
    """What is wrong with ``value`` by the part of OpenAPI 3 that the published schemas use."""
    if value is None and schema.get("nullable"):
        return
    if "$ref" in schema:
        yield from _problems(value, schemas[schema["$ref"].rpartition("/")[2]], schemas, where)
        return
    for key in ("anyOf", "oneOf"):
        if key in schema and not any(not list(_problems(value, option, schemas, where)) for option in schema[key]):
            yield f"{where}: {value!r} is none of {key}"
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
    kinds["null"] = type(None)
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        yield f"{where}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _problems(item, schema.get("items", {}), schemas, f"{where}[{number}]")
    if isinstance(value, dict):
        yield from (f"{where}.{key} is missing" for key in schema.get("required", ()) if key not in value)
        rest = schema.get("additionalProperties")
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, rest if isinstance(rest, dict) else {})
            yield from _problems(item, inner, schemas, f"{where}.{key}")


@pytest.fixture(scope="session")
def problems(published):
    """``problems(value, "CreateCompletionResponse")``: a list, empty for an answer that keeps to the published schema."""
    return lambda value, name: list(_problems(value, published[name], published))
