"""Anthropic's messages, by its Python SDK and by curl. Every answer and event also goes to that SDK's types."""

from __future__ import annotations

from typing import Any

import pytest
from kit.checks import checks
from kit.curl import Curl
from kit.expect import unless_refused
from kit.server import Server

check = checks("anthropic-python", needs=("messages",), promise="anthropic")
by_curl = checks("curl", needs=("messages",), promise="anthropic")
HI: list[Any] = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def ask(client: Any, server: Server, messages: Any = HI, **fields: Any) -> Any:
    return client.messages.create(model=server.model, messages=messages, **{"max_tokens": 16, **fields})


@check("messages.whole", "An answer is a message with a text block, a stop_reason and usage.")
def check_whole(server: Server, anthropic_client: Any) -> None:
    found = ask(anthropic_client, server)
    assert (found.type, found.role) == ("message", "assistant")
    assert found.content[-1].type == "text"
    assert found.content[-1].text
    assert found.stop_reason in {"end_turn", "max_tokens"}
    assert found.usage.input_tokens > 0
    assert 0 < found.usage.output_tokens <= 16


@check("messages.max_tokens", "max_tokens that are spent are the stop_reason.")
def check_max_tokens(server: Server, anthropic_client: Any) -> None:
    story: list[Any] = [{"role": "user", "content": "Tell me a story about a fox and a river."}]
    assert ask(anthropic_client, server, story, max_tokens=4).stop_reason == "max_tokens"


@check("messages.stop", "A stop sequence is the stop_reason, named, and not in the text.")
def check_stop(server: Server, anthropic_client: Any) -> None:
    greedy = {"temperature": 0}  # which the SDK no longer has a name for
    text = ask(anthropic_client, server, extra_body=greedy).content[-1].text
    found = ask(anthropic_client, server, extra_body=greedy, stop_sequences=[text[5:9]])
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", text[5:9])
    assert text[5:9] not in "".join(block.text for block in found.content)


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "system": ("system may be a text.", {"system": "Be brief."}),
    "system-blocks": (
        "system may be a list of blocks with cache_control.",
        {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
    ),
    "blocks": (
        "Content may be a list of blocks with cache_control.",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}]},
    ),
    "prefill": (
        "The last message may be the assistant's begin.",
        {"messages": [*HI, {"role": "assistant", "content": "The capital of"}]},
    ),
    "metadata": (
        "metadata, top_k and top_p are taken.",
        {"metadata": {"user_id": "ann"}, "extra_body": {"top_k": 5, "top_p": 0.9}},
    ),
    "tool-round": (
        "A tool's use and its result, also as blocks, are taken.",
        {
            "messages": [
                *HI,
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny"}]},
                        {"type": "text", "text": "Thanks."},
                    ],
                },
            ],
            "tools": [WEATHER],
            "tool_choice": {"type": "none"},
        },
    ),
}


def _shape(name: str, says: str, fields: dict[str, Any]) -> Any:
    @check(f"messages.shape.{name}", says)
    def check_shape(server: Server, anthropic_client: Any) -> None:
        others = {key: value for key, value in fields.items() if key != "messages"}
        with unless_refused("prefill"):  # as Anthropic's newer models do
            found = ask(anthropic_client, server, fields.get("messages", HI), **others)
        assert found.stop_reason

    return check_shape


globals().update({f"check_{name}": _shape(name, *given) for name, given in SHAPES.items()})


@check("messages.stream.order", "A stream is message_start, blocks that begin, go on and end, message_delta, message_stop.")
def check_order(server: Server, anthropic_client: Any) -> None:
    kinds = [event.type for event in ask(anthropic_client, server, stream=True) if event.type != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) <= {"content_block_delta", "content_block_stop", "content_block_start"}


@check("messages.stream.helper", "The SDK's stream() helper gives the text, and the final message.")
def check_helper(server: Server, anthropic_client: Any) -> None:
    with anthropic_client.messages.stream(model=server.model, messages=HI, max_tokens=16) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[-1].text == text
    assert final.stop_reason
    assert final.usage.output_tokens > 0


@check("messages.tools.forced", "tool_choice that names a tool makes the answer a tool_use with its input.")
def check_forced(server: Server, anthropic_client: Any) -> None:
    choice = {"type": "tool", "name": "get_weather"}
    with unless_refused("tool"):
        found = ask(anthropic_client, server, tools=[WEATHER], tool_choice=choice, max_tokens=64)
    uses = [block for block in found.content if block.type == "tool_use"]
    assert [use.name for use in uses] == ["get_weather"]
    assert set(uses[0].input) == {"city"}
    assert found.stop_reason == "tool_use"


@check("messages.tools.any", "tool_choice any makes the answer a tool_use.")
def check_any(server: Server, anthropic_client: Any) -> None:
    with unless_refused("tool"):
        found = ask(anthropic_client, server, tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=64)
    assert found.stop_reason == "tool_use"


@check("messages.tools.stream", "A streamed tool_use comes as input_json_delta, and the helper puts its input together.")
def check_tools_stream(server: Server, anthropic_client: Any) -> None:
    choice = {"type": "tool", "name": "get_weather"}
    asked: dict[str, Any] = {"tools": [WEATHER], "tool_choice": choice, "max_tokens": 64}
    with unless_refused("tool"), anthropic_client.messages.stream(model=server.model, messages=HI, **asked) as stream:
        kinds = {getattr(getattr(event, "delta", None), "type", None) for event in stream}
        final = stream.get_final_message()
    assert "input_json_delta" in kinds
    assert set(next(block.input for block in final.content if block.type == "tool_use")) == {"city"}


@check("messages.count", "The tokens of messages can be counted without an answer.", needs=("messages.count_tokens",))
def check_count(server: Server, anthropic_client: Any) -> None:
    counted = anthropic_client.messages.count_tokens(model=server.model, messages=HI, system="Be brief.")
    usage = ask(anthropic_client, server, system="Be brief.").usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    assert counted.input_tokens == usage.input_tokens + cached


@check("messages.thinking", "A request with thinking switched off is taken.")
def check_thinking(server: Server, anthropic_client: Any) -> None:
    assert ask(anthropic_client, server, thinking={"type": "disabled"}).stop_reason


@check("messages.beta", "What Claude Code sends along is taken: ?beta=true, anthropic-beta.")
def check_beta(server: Server, anthropic_client: Any) -> None:
    betas = ["claude-code-20250219", "interleaved-thinking-2025-05-14"]
    found = anthropic_client.beta.messages.create(model=server.model, messages=HI, max_tokens=4, betas=betas)
    assert found.stop_reason


@check("messages.error.model", "An unknown model is a NotFoundError in Anthropic's shape.")
def check_unknown_model(anthropic_client: Any) -> None:
    import anthropic

    with pytest.raises(anthropic.NotFoundError) as caught:
        anthropic_client.messages.create(model="no-such-model-anywhere", messages=HI, max_tokens=1)
    assert caught.value.body["error"]["type"] == "not_found_error"


@check("messages.error.bad", "A bad field is a BadRequestError in Anthropic's shape.")
def check_bad(server: Server, anthropic_client: Any) -> None:
    import anthropic

    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(anthropic_client, server, max_tokens=-1)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"


@by_curl("messages.error.malformed", "Malformed JSON is a 400 in Anthropic's shape.")
def check_malformed(curl: Curl) -> None:
    answer = curl.post("/messages", b"{", "-H", "anthropic-version: 2023-06-01")
    assert answer.status == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "invalid_request_error"


@by_curl("messages.request-id", "An answer has a request-id.")
def check_request_id(curl: Curl, server: Server) -> None:
    answer = curl.post(
        "/messages", {"model": server.model, "messages": HI, "max_tokens": 1}, "-H", "anthropic-version: 2023-06-01"
    )
    assert answer.headers.get("request-id")


@by_curl("messages.key", "The key may come as x-api-key.")
def check_key(curl: Curl, server: Server) -> None:
    import json

    body = json.dumps({"model": server.model, "messages": HI, "max_tokens": 1}).encode()
    words = (
        "-H",
        f"x-api-key: {server.api_key}",
        "-H",
        "anthropic-version: 2023-06-01",
        "-H",
        "content-type: application/json",
    )
    assert curl.run("/messages", *words, "--data-binary", "@-", data=body, key=False).status == 200
