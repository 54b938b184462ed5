"""LiteLLM, the client: OpenAI's chats, responses and embeddings, and Anthropic's messages."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from kit.checks import checks
from kit.server import SECONDS, Server

check = checks("litellm", needs=("chat",))
of_anthropic = checks("litellm", needs=("messages",), promise="anthropic")
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now.",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
    },
}
CALL = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture
def to_openai(server: Server) -> dict[str, Any]:
    return {"model": f"openai/{server.model}", "api_base": server.base_url, **common(server)}


@pytest.fixture
def to_anthropic(server: Server) -> dict[str, Any]:
    return {"model": f"anthropic/{server.model}", "api_base": server.origin, **common(server)}


def common(server: Server) -> dict[str, Any]:
    return {
        "api_key": server.api_key,
        "timeout": SECONDS,
        "num_retries": 0,
        "max_retries": 0,
        "temperature": 0,
        "max_tokens": 64,
    }


def as_response(options: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in options.items() if key not in {"max_tokens", "num_retries", "max_retries"}}
    return {**kept, "input": "What is the capital of France?", "max_output_tokens": 24}


def answered(options: dict[str, Any]) -> None:
    answer = litellm.completion(messages=FRANCE, **options)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def streamed(options: dict[str, Any]) -> None:
    chunks = list(litellm.completion(messages=FRANCE, stream=True, stream_options={"include_usage": True}, **options))
    whole = litellm.stream_chunk_builder(chunks)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.choices[0].finish_reason in {"stop", "length"}
    assert whole.usage.completion_tokens > 0


def called(options: dict[str, Any], *, stream: bool) -> None:
    """The call comes, its result goes back, and a text is the answer."""
    answer = litellm.completion(messages=FRANCE, tools=[TOOL], tool_choice=CALL, stream=stream, **options)
    message = (litellm.stream_chunk_builder(list(answer)) if stream else answer).choices[0].message
    [call] = message.tool_calls
    assert call.function.name == "get_weather"
    assert call.function.arguments.replace(" ", "").replace("\n", "") in {'{"city":"Paris"}', '{"city":"Rome"}'}
    back = {"role": "tool", "tool_call_id": call.id, "content": "It is sunny."}
    last = litellm.completion(messages=[*FRANCE, message.model_dump(), back], tools=[TOOL], tool_choice="none", **options)
    assert last.choices[0].message.content


@check("litellm.openai.chat", "`openai/` is answered, with usage that adds up.")
def check_chat(to_openai: dict[str, Any]) -> None:
    answered(to_openai)


@check("litellm.openai.stream", "An `openai/` stream's pieces add up, with usage.")
def check_stream(to_openai: dict[str, Any]) -> None:
    streamed(to_openai)


@check("litellm.openai.tool", "An `openai/` tool is called, and its answer taken.")
def check_tool(to_openai: dict[str, Any]) -> None:
    called(to_openai, stream=False)


@check("litellm.openai.tool-stream", "An `openai/` call that comes as a stream is put together.")
def check_tool_stream(to_openai: dict[str, Any]) -> None:
    called(to_openai, stream=True)


@check("litellm.openai.not-found", "An unknown model is LiteLLM's `NotFoundError`.")
def check_not_found(to_openai: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(messages=FRANCE, **{**to_openai, "model": "openai/no-such-model"})


@check("litellm.openai.responses", "`litellm.responses` is answered.", needs=("responses",))
def check_responses(to_openai: dict[str, Any]) -> None:
    answer = litellm.responses(**as_response(to_openai))
    assert answer.output[0].content[0].text
    assert answer.usage.output_tokens > 0


@check(
    "litellm.openai.responses-stream",
    "A `litellm.responses` stream ends with its completed or incomplete answer.",
    needs=("responses",),
)
def check_responses_stream(to_openai: dict[str, Any]) -> None:
    events = list(litellm.responses(stream=True, **as_response(to_openai)))
    pieces = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type in {"response.completed", "response.incomplete"}
    assert pieces
    assert pieces == events[-1].response.output[0].content[0].text


@check("litellm.openai.embeddings", "`litellm.embedding` gives vectors in order.", needs=("embeddings", "embedding-model"))
def check_embeddings(server: Server) -> None:
    answer = litellm.embedding(
        model=f"openai/{server.embedding_model}", input=["a cat", "a dog"], api_base=server.base_url, api_key=server.api_key
    )
    assert [row["index"] for row in answer.data] == [0, 1]
    assert len({len(row["embedding"]) for row in answer.data}) == 1


@of_anthropic("litellm.anthropic.chat", "`anthropic/` is answered, with usage that adds up.")
def check_messages(to_anthropic: dict[str, Any]) -> None:
    answered(to_anthropic)


@of_anthropic("litellm.anthropic.stream", "An `anthropic/` stream's pieces add up, with usage.")
def check_messages_stream(to_anthropic: dict[str, Any]) -> None:
    streamed(to_anthropic)


@of_anthropic("litellm.anthropic.tool", "An `anthropic/` tool is called, and its answer taken.")
def check_messages_tool(to_anthropic: dict[str, Any]) -> None:
    called(to_anthropic, stream=False)


@of_anthropic("litellm.anthropic.tool-stream", "An `anthropic/` call that comes as a stream is put together.")
def check_messages_tool_stream(to_anthropic: dict[str, Any]) -> None:
    called(to_anthropic, stream=True)
