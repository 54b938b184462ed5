import json
from pathlib import Path

import pytest

from openai_compat.protocol import RelayFacts
from openai_compat.translate import chat, completions
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
    return lambda **fields: chat.to_request(chat_body(**fields), facts)


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
