"""pydantic-ai: agents by chat completions, by the Responses API, and by Anthropic's messages.

In the first step the model is told to call the tool, in the later ones it is free; what it says is a list's, so that a small
model's call is right wherever the server holds it to the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from anthropic import AsyncAnthropic
from kit.checks import checks
from kit.server import SECONDS, Server
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput, RunContext, ToolOutput
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

chat = checks("pydantic-ai", needs=("chat",))
responses = checks("pydantic-ai", needs=("responses",))
messages = checks("pydantic-ai", needs=("messages",), promise="anthropic")
embeddings = checks("pydantic-ai", needs=("embeddings", "embedding-model"))
City = Literal["Paris", "Rome", "Oslo"]
Models = Callable[[str], Any]


class Weather(BaseModel):
    city: City
    degrees: Literal[0, 10, 20, 30]


@dataclass
class ToldOnce(AbstractCapability[None]):
    """The tool has to be called in the first step, and only there."""

    def get_model_settings(self) -> Callable[[RunContext[None]], Any]:
        def settings(context: RunContext[None]) -> Any:
            return {"tool_choice": "required" if context.run_step <= 1 else "auto"}

        return settings


@pytest.fixture
def models(server: Server) -> Models:
    """A model by its API."""
    options: dict[str, Any] = {"api_key": server.api_key, "max_retries": 0, "timeout": SECONDS}

    def made(api: str) -> Any:
        if api == "messages":
            client = AsyncAnthropic(base_url=server.origin, **options)
            return AnthropicModel(server.model, provider=AnthropicProvider(anthropic_client=client))
        kind = OpenAIResponsesModel if api == "responses" else OpenAIChatModel
        return kind(server.model, provider=OpenAIProvider(openai_client=AsyncOpenAI(base_url=server.base_url, **options)))

    return made


def agent(model: Any, output: Any = str, most: int = 64, **options: Any) -> Agent[None, Any]:
    settings: Any = {"temperature": 0.0, "max_tokens": most}
    return Agent(model, output_type=output, instructions="Be brief.", model_settings=settings, retries=0, **options)


async def looped(model: Any) -> None:
    called: list[str] = []
    helper = agent(model, capabilities=[ToldOnce()])

    @helper.tool_plain
    def get_weather(city: City) -> str:
        """The weather in a city, now."""
        called.append(city)
        return f"It is sunny in {city}."

    result = await helper.run("What is the weather in Paris? Use the tool.")
    parts = [part for message in result.all_messages() for part in message.parts]
    [call] = [part for part in parts if isinstance(part, ToolCallPart)]
    [back] = [part for part in parts if isinstance(part, ToolReturnPart)]
    assert called in [["Paris"], ["Rome"], ["Oslo"]]
    assert call.tool_call_id == back.tool_call_id
    assert result.output.strip()
    assert result.usage.requests == 2
    assert result.usage.output_tokens > 0


async def streamed(model: Any) -> None:
    async with agent(model).run_stream("What is the capital of France?") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        whole = await result.get_output()
    assert len(pieces) > 1
    assert "".join(pieces) == whole
    assert result.usage.output_tokens > 0


async def structured(model: Any, output: Any) -> None:
    result = await agent(model, output).run("It is 20 degrees in Rome.")
    assert isinstance(result.output, Weather)


async def structured_stream(model: Any) -> None:
    """Objects grow as they come; the last is whole."""
    async with agent(model, ToolOutput(Weather)).run_stream("It is 20 degrees in Rome.") as result:
        seen = [part async for part in result.stream_output(debounce_by=None)]
    assert isinstance(seen[-1], Weather)


async def remembered(model: Any) -> None:
    """A second turn brings along the first one's messages."""
    first = await agent(model, most=16).run("My name is Ada.")
    second = await agent(model, most=16).run("What is my name?", message_history=first.all_messages())
    kinds = [type(message) for message in second.all_messages()]
    assert kinds == [ModelRequest, ModelResponse, ModelRequest, ModelResponse]
    assert second.output.strip()


@chat("pydantic-ai.chat.loop", "An agent calls its tool, gets the result, and answers, by chat completions.")
async def check_chat_loop(models: Models) -> None:
    await looped(models("chat"))


@chat("pydantic-ai.chat.stream", "A stream's pieces add up to the text, with usage, by chat completions.")
async def check_chat_stream(models: Models) -> None:
    await streamed(models("chat"))


@chat("pydantic-ai.chat.tool-output", "An output type as a tool is filled in, by chat completions.")
async def check_chat_tool_output(models: Models) -> None:
    await structured(models("chat"), ToolOutput(Weather))


@chat("pydantic-ai.chat.native-output", "An output type as a JSON schema is filled in, by chat completions.")
async def check_chat_native_output(models: Models) -> None:
    await structured(models("chat"), NativeOutput(Weather))


@chat("pydantic-ai.chat.output-stream", "A structured output comes as a stream, by chat completions.")
async def check_chat_output_stream(models: Models) -> None:
    await structured_stream(models("chat"))


@chat("pydantic-ai.chat.turns", "A second turn brings along the first, by chat completions.")
async def check_chat_turns(models: Models) -> None:
    await remembered(models("chat"))


@responses("pydantic-ai.responses.loop", "An agent calls its tool, gets the result, and answers, by the Responses API.")
async def check_responses_loop(models: Models) -> None:
    await looped(models("responses"))


@responses("pydantic-ai.responses.stream", "A stream's pieces add up to the text, with usage, by the Responses API.")
async def check_responses_stream(models: Models) -> None:
    await streamed(models("responses"))


@responses("pydantic-ai.responses.tool-output", "An output type as a tool is filled in, by the Responses API.")
async def check_responses_tool_output(models: Models) -> None:
    await structured(models("responses"), ToolOutput(Weather))


@responses("pydantic-ai.responses.native-output", "An output type as a JSON schema is filled in, by the Responses API.")
async def check_responses_native_output(models: Models) -> None:
    await structured(models("responses"), NativeOutput(Weather))


@responses("pydantic-ai.responses.turns", "A second turn brings along the first, by the Responses API.")
async def check_responses_turns(models: Models) -> None:
    await remembered(models("responses"))


@messages("pydantic-ai.messages.loop", "An agent calls its tool, gets the result, and answers, by Anthropic's messages.")
async def check_messages_loop(models: Models) -> None:
    await looped(models("messages"))


@messages("pydantic-ai.messages.stream", "A stream's pieces add up to the text, with usage, by Anthropic's messages.")
async def check_messages_stream(models: Models) -> None:
    await streamed(models("messages"))


@messages("pydantic-ai.messages.tool-output", "An output type as a tool is filled in, by Anthropic's messages.")
async def check_messages_tool_output(models: Models) -> None:
    await structured(models("messages"), ToolOutput(Weather))


@messages("pydantic-ai.messages.turns", "A second turn brings along the first, by Anthropic's messages.")
async def check_messages_turns(models: Models) -> None:
    await remembered(models("messages"))


@embeddings("pydantic-ai.embeddings", "Texts become vectors of one length, in order, and equal texts equal vectors.")
async def check_embeddings(server: Server) -> None:
    client = AsyncOpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=SECONDS)
    embedder = Embedder(OpenAIEmbeddingModel(server.embedding_model, provider=OpenAIProvider(openai_client=client)))
    result = await embedder.embed_documents(["a cat", "a dog", "a cat"])
    assert len({len(vector) for vector in result.embeddings}) == 1
    assert result.embeddings[0] == pytest.approx(result.embeddings[2], abs=1e-3)
    assert result.embeddings[0] != pytest.approx(result.embeddings[1], abs=1e-3)
