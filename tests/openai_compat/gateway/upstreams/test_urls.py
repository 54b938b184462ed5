"""Where requests for upstreams go: below their base, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat.config import ConfigError, Upstream
from openai_compat.errors import ModelNotFound, NotFound
from openai_compat.gateway.upstreams.urls import Addresses

CHAT = "/v1/chat/completions"
AZURE = "https://me.openai.azure.com/openai/deployments/{model}"


def address(base: str, path: str = CHAT, query: str = "", model: str = "m", **settings: Any) -> str:
    return str(Addresses(Upstream(base_url=base, **settings)).of(path, query, model))


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/chat/completions"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
    ],
)
def test_the_path_after_v1_follows_the_base(base, expected) -> None:
    assert address(base) == expected


def test_the_configured_query_comes_before_the_clients_and_wins() -> None:
    asked = "limit=5&after=a%20b&api-version=evil&api%2Dversion=evil"
    assert address("https://h/v1", "/v1/files", asked) == f"https://h/v1/files?{asked}"
    ours = Upstream(base_url="https://h/v1", query={"api-version": "2024-10-21"})
    assert str(Addresses(ours).of("/v1/files", asked, "m")) == "https://h/v1/files?api-version=2024-10-21&limit=5&after=a%20b"


@pytest.mark.parametrize(
    ("model", "quoted"), [("gpt-4o", "gpt-4o"), ("a/b", "a%2Fb"), ("a b?c#d%", "a%20b%3Fc%23d%25"), ("é", "%C3%A9")]
)
def test_the_models_name_is_one_part_of_an_address_whatever_is_in_it(model, quoted) -> None:
    assert address(AZURE, model=model) == f"https://me.openai.azure.com/openai/deployments/{quoted}/chat/completions"


@pytest.mark.parametrize("path", ["/v1/../admin", "/v1/files/..", "/v1/files/%2e%2e/x", "/v1/files/..%2Fx", "/v1/a/.%5c..%5cx"])
def test_no_path_leads_out_of_the_base(path) -> None:
    with pytest.raises(NotFound):
        address("https://h/v1", path=path)


def test_a_query_does_not_name_another_model() -> None:
    """Of a form Go's servers would take the query's word for it."""
    assert address("https://h/v1", query="model=dear&a=1&mode%6C=dear") == "https://h/v1/chat/completions?a=1"


@pytest.mark.parametrize("model", [".", "..", "../..", "a/../../b", "..\\x", "..%2f..%2fx", "%2e%2e/x"])
def test_no_models_name_leads_out_of_the_base(model) -> None:
    with pytest.raises(ModelNotFound):
        address(AZURE, model=model)
    assert address("https://h/v1", model=model)


@pytest.mark.parametrize(
    "base",
    [
        "",
        "api.openai.com/v1",
        "ftp://h/v1",
        "https://",
        "https://key@h/v1",
        "https://u:p@h/v1",
        "https://h/v1?a=b",
        "https://h/#x",
        "https://h:99999/",
    ],
)
def test_a_base_that_is_no_plain_address_is_refused(base) -> None:
    with pytest.raises(ConfigError):
        Addresses(Upstream(base_url=base))


def test_what_is_refused_is_not_repeated_since_a_key_may_be_in_it() -> None:
    with pytest.raises(ConfigError) as refusal:
        Addresses(Upstream(base_url="https://user:sk-secret@h/v1"))
    assert "sk-secret" not in str(refusal.value)


def test_an_address_is_made_once() -> None:
    addresses = Addresses(Upstream(base_url="https://h/v1"))
    assert addresses.of(CHAT, "", "one") is addresses.of(CHAT, "", "two")
