"""A key's models, through the whole server: what it may not use is, to it, not there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, Model, Route, Server, Storage
from openai_compat.keys.file import KeyFile, key_path
from openai_compat.keys.keeper import KeyKeeper
from schemas.admin import CreateKey

CHAT = "/v1/chat/completions"
PICTURES = "/v1/images/generations"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
ECHO = Model(kind="echo")


@pytest.fixture(scope="module")
def client_of(tmp_path_factory) -> Callable[..., TestClient]:
    """A client with a key for these models."""
    config = Config(
        server=Server(port=0, inline=True),
        storage=Storage(dir=str(tmp_path_factory.mktemp("kept"))),
        models={"first": ECHO, "second": ECHO, "third": ECHO},
        routes={"either": Route(targets=("first", "third"))},
        aliases={"nickname": "first:shout"},
    )

    async def make(*models: str) -> str:
        file = KeyFile(key_path(config))
        made = await KeyKeeper(file).create(CreateKey(models=models))
        await file.close()
        return made.secret

    keys = {models: asyncio.run(make(*models)) for models in ((), ("second",), ("either",), ("nickname", "thi*"))}
    with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:

        def client_of(*models: str) -> TestClient:
            client.headers["x-api-key"] = keys[models]
            return client

        yield client_of


def refusal(client: TestClient, path: str, model: str, **fields: object) -> tuple[int, str]:
    answer = client.post(path, json={"model": model, **fields})
    return answer.status_code, answer.text.replace(f"'{model}'", "'…'")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, HELLO),
        (CHAT, {**HELLO, "stream": True}),
        (CHAT, {}),
        (CHAT, {"messages": 5}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/images/generations", {"prompt": "x"}),
        ("/v1/audio/speech", {"input": "x", "voice": "alloy"}),
        ("/v1/videos", {"prompt": "x"}),
        ("/v1/rerank", {"query": "x", "documents": ["y"]}),
    ],
)
@pytest.mark.parametrize("hidden", ["first", "either", "nickname", "third:shout"])
def test_what_a_key_may_not_use_is_answered_as_what_does_not_exist(client_of, path, fields, hidden) -> None:
    client = client_of("second")
    seen = refusal(client, path, hidden, **fields)
    assert seen == refusal(client, path, "made-up", **fields)
    assert seen[0] in (400, 404)
    assert "first" not in seen[1]


def test_what_it_may_use_answers_and_nothing_else_is_listed(client_of) -> None:
    for models, listed in {
        (): ["first", "second", "third", "either", "nickname"],
        ("second",): ["second"],
        ("either",): ["either"],
        ("nickname", "thi*"): ["third", "nickname"],
    }.items():
        client = client_of(*models)
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == listed
        for name in listed:
            assert client.post(CHAT, json={"model": name, **HELLO}).json()["model"] == name
            assert client.get(f"/v1/models/{name}").json()["id"] == name
    assert "nickname" not in client_of("second").get("/v1/models").text


def test_a_hidden_model_is_described_as_one_that_does_not_exist(client_of) -> None:
    client = client_of("second")
    first, made_up = client.get("/v1/models/first"), client.get("/v1/models/fir\u00e9t")
    assert first.status_code == made_up.status_code == 404
    assert first.text.replace("first", "…") == made_up.text.replace("fir\u00e9t", "…")


def test_a_request_without_a_model_goes_to_one_that_the_key_may_use(client_of) -> None:
    for models, chosen in {(): "first", ("second",): "second", ("nickname", "thi*"): "third", ("either",): None}.items():
        client = client_of(*models)
        before = usage(client)
        answer = client.post(PICTURES, json={"prompt": "x"})
        video = client.post("/v1/videos", json={"prompt": "x"})
        if chosen is None:
            assert answer.status_code == video.status_code == 404
            assert answer.json()["error"]["code"] == video.json()["error"]["code"] == "model_not_found"
        else:
            assert answer.status_code == 200
            assert usage(client).get(chosen, 0) > before.get(chosen, 0)
            assert video.json()["model"] == chosen
            client.delete(f"/v1/videos/{video.json()['id']}")


def usage(client: TestClient) -> dict[str, int]:
    return {day["model"]: day["requests"] for day in client.get("/v1/usage").json()["data"]}


def test_usage_of_a_hidden_model_is_as_empty_as_of_none(client_of) -> None:
    client_of().post(CHAT, json={"model": "first", **HELLO})
    client = client_of("second")
    answers = [client.get("/v1/usage", params={"model": model}).json() for model in ("first", "made-up")]
    assert answers[0] == answers[1]
    assert answers[0]["data"] == []


@pytest.mark.parametrize("field", ["models", "fallbacks", "preset"])
@pytest.mark.parametrize("value", [["first"], "first", None, [{"second": ["first"]}]], ids=str)
def test_a_key_for_certain_models_names_no_others_in_the_words_of_an_upstream(client_of, field, value) -> None:
    """OpenRouter and LiteLLM answer with another model than the one that is asked for, and paid for, where these say so."""
    answer = client_of("second").post(CHAT, json={"model": "second", **HELLO, field: value})
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("permission_error", "model_not_allowed", field)
    assert client_of("second").post(CHAT, json={"model": "second", **HELLO, "metadata": {field: "first"}}).status_code == 200


def test_a_key_for_all_models_may(client_of) -> None:
    answer = client_of().post(CHAT, json={"model": "second", **HELLO, "models": ["first"]})
    assert "model_not_allowed" not in answer.text
