"""Vercel's AI SDK: what `node/ai.mjs` has seen by each of its providers."""

from __future__ import annotations

from typing import Any

import pytest
from kit.checks import Promise, checks
from kit.node import Node

CITIES = ("Paris", "Rome", "Oslo")
PROVIDERS: dict[str, tuple[str, str, Promise]] = {
    "compatible": ("@ai-sdk/openai-compatible", "chat", "openai"),
    "openai": ("@ai-sdk/openai, chat", "chat", "openai"),
    "responses": ("@ai-sdk/openai", "responses", "openai"),
    "anthropic": ("@ai-sdk/anthropic", "messages", "anthropic"),
}


def text(node: Node, provider: str) -> None:
    """generateText gives a text, a reason, and usage, and warns of nothing."""
    seen = node.run("ai", "text", provider=provider)
    assert seen["text"]
    assert seen["finish"] in {"stop", "length"}
    assert seen["usage"]["totalTokens"] == seen["usage"]["inputTokens"] + seen["usage"]["outputTokens"]
    assert seen["warnings"] == 0


def stream(node: Node, provider: str) -> None:
    """streamText gives a text in pieces, with usage, and no error."""
    seen = node.run("ai", "stream", provider=provider)
    assert not seen["errors"]
    assert seen["pieces"] > 1
    assert seen["text"] == seen["whole"] != ""
    assert seen["finish"] in {"stop", "length"}
    assert seen["usage"]["outputTokens"] > 0


def tools(node: Node, provider: str) -> None:
    """generateText calls a tool, hands back what it gave, and ends with a text."""
    seen = node.run("ai", "tools", provider=provider)
    assert_called(seen)
    assert seen["text"]


def tools_streamed(node: Node, provider: str) -> None:
    """streamText calls a tool whose arguments come in pieces, and goes on with what it gave."""
    seen = node.run("ai", "toolsStreamed", provider=provider)
    assert not seen["errors"]
    assert_called(seen)
    assert {"tool-input-start", "tool-input-delta", "tool-call", "tool-result", "text-delta"} <= set(seen["kinds"])


def assert_called(seen: dict[str, Any]) -> None:
    assert len(seen["calls"]) == 1
    assert seen["calls"][0] in CITIES
    assert seen["steps"][0] == "tool-calls"
    assert seen["steps"][1] in {"stop", "length"}


def object_(node: Node, provider: str) -> None:
    """generateObject fills in an object of the schema."""
    assert_weather(node.run("ai", "object", provider=provider)["object"])


def object_streamed(node: Node, provider: str) -> None:
    """streamObject fills in an object of the schema as it comes."""
    seen = node.run("ai", "objectStreamed", provider=provider)
    assert not seen["errors"]
    assert seen["pieces"] > 1
    assert_weather(seen["object"])


def assert_weather(found: dict[str, Any]) -> None:
    assert found["city"] in CITIES
    assert found["degrees"] in {0, 10, 20}


def unknown_model(node: Node, provider: str) -> None:
    """An unknown model is an error with the status 404 and a message, not tried again."""
    seen = node.run("ai", "unknownModel", provider=provider)
    assert (seen["status"], seen["retryable"]) == (404, False)
    assert "no-such-model-anywhere" in seen["message"]


SCENARIOS = (text, stream, tools, tools_streamed, object_, object_streamed, unknown_model)


def declared(provider: str, scenario: Any) -> Any:
    package, need, promise = PROVIDERS[provider]
    name = scenario.__name__.strip("_").replace("_", "-")
    check = checks("ai-sdk", needs=(need,), promise=promise)
    return pytest.param(provider, scenario, marks=check(f"ai-sdk.{provider}.{name}", f"{package}: {scenario.__doc__}"))


@pytest.mark.parametrize(
    ("provider", "scenario"), [declared(provider, scenario) for provider in PROVIDERS for scenario in SCENARIOS]
)
def check_provider(node: Node, provider: str, scenario: Any) -> None:
    scenario(node, provider)


@checks("ai-sdk")("ai-sdk.embed-many", "embedMany gives vectors in order.", needs=("embeddings", "embedding-model"))
def check_embed_many(node: Node) -> None:
    seen = node.run("ai", "vectors")
    assert len(set(seen["lengths"])) == 1
    assert seen["lengths"][0] > 0
    assert seen["first"] == pytest.approx(seen["last"], abs=1e-3)
    assert seen["dog"] == pytest.approx(seen["one"], abs=1e-3)
    assert seen["dog"] != pytest.approx(seen["first"], abs=1e-3)
