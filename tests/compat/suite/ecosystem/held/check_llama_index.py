"""LlamaIndex: `OpenAILike` and its embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
from kit.checks import checks
from kit.server import SECONDS, Server
from llama_index.core.llms import ChatMessage
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

check = checks("llama-index", needs=("chat",))
City = Literal["Paris", "Rome", "Oslo"]
FRANCE = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="What is the capital of France?")]


class Asked(BaseModel):
    city: City


class Weather(BaseModel):
    """The weather in a city."""

    city: City
    degrees: Literal[0, 10, 20, 30]


@pytest.fixture
def made(server: Server) -> Callable[..., OpenAILike]:
    def model(**options: Any) -> OpenAILike:
        return OpenAILike(
            model=server.model,
            api_base=server.base_url,
            api_key=server.api_key,
            is_chat_model=True,
            is_function_calling_model=True,
            temperature=0,
            max_tokens=32,
            max_retries=0,
            timeout=SECONDS,
            **options,
        )

    return model


def weather_of(city: str) -> str:
    """The weather in a city, now."""
    return f"It is sunny in {city}."


@check("llama-index.chat", "A chat is answered.")
def check_chat(made: Callable[..., OpenAILike]) -> None:
    answer = made().chat(FRANCE)
    assert answer.message.role == "assistant"
    assert answer.message.content
    assert answer.raw.usage.completion_tokens > 0


@check("llama-index.complete", "`complete` of a chat model is answered.")
def check_complete(made: Callable[..., OpenAILike]) -> None:
    assert made().complete("What is the capital of France?").text


@check("llama-index.legacy-complete", "`complete` of a model that knows no chats is answered.", needs=("completions",))
def check_legacy_complete(server: Server) -> None:
    model = OpenAILike(model=server.model, api_base=server.base_url, api_key=server.api_key, max_tokens=8, max_retries=0)
    assert model.complete("The capital of France is").text


@check("llama-index.stream", "A stream's pieces add up to its last text.")
def check_stream(made: Callable[..., OpenAILike]) -> None:
    pieces = list(made().stream_chat(FRANCE))
    assert len(pieces) > 1
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].message.content


@check("llama-index.astream", "The asynchronous stream's pieces add up to its last text.")
def check_astream(made: Callable[..., OpenAILike]) -> None:
    async def pieces() -> list[Any]:
        return [piece async for piece in await made().astream_chat(FRANCE)]

    found = asyncio.run(pieces())
    assert "".join(piece.delta or "" for piece in found) == found[-1].message.content


@check("llama-index.tool", "A tool that must be called is called with what its schema allows, and its answer is taken.")
def check_tool(made: Callable[..., OpenAILike]) -> None:
    model, tool = made(), FunctionTool.from_defaults(weather_of, fn_schema=Asked)
    question = ChatMessage(role="user", content="What is the weather in Paris?")
    answer = model.chat_with_tools([tool], chat_history=[question], tool_required=True)
    [call] = model.get_tool_calls_from_response(answer)
    assert call.tool_name == "weather_of"
    assert call.tool_kwargs["city"] in {"Paris", "Rome", "Oslo"}
    result = tool.call(**call.tool_kwargs)
    back = ChatMessage(role="tool", content=str(result), additional_kwargs={"tool_call_id": call.tool_id})
    assert model.chat([question, answer.message, back]).message.content


@check("llama-index.tool-stream", "A call that comes as a stream is put together.")
def check_tool_stream(made: Callable[..., OpenAILike]) -> None:
    model, tool = made(), FunctionTool.from_defaults(weather_of, fn_schema=Asked)
    *_, last = model.stream_chat_with_tools([tool], user_msg="What is the weather in Paris?", tool_required=True)
    [call] = model.get_tool_calls_from_response(last)
    assert call.tool_kwargs["city"] in {"Paris", "Rome", "Oslo"}


@check("llama-index.program", "A structured output by a tool is filled in.")
def check_program(made: Callable[..., OpenAILike]) -> None:
    program = FunctionCallingProgram.from_defaults(
        output_cls=Weather, llm=made(), prompt_template_str="It is {degrees} degrees in Rome.", tool_required=True
    )
    assert isinstance(program(degrees=20), Weather)


@check("llama-index.structured", "`structured_predict` by a JSON schema is filled in.")
def check_structured(made: Callable[..., OpenAILike]) -> None:
    answer = made(should_use_structured_outputs=True).as_structured_llm(Weather).complete("It is 20 degrees in Rome.")
    assert isinstance(answer.raw, Weather)


@check(
    "llama-index.embeddings",
    "Texts in batches become vectors of one length, in order; a query's is as long.",
    needs=("embeddings", "embedding-model"),
)
def check_embeddings(server: Server) -> None:
    model = OpenAILikeEmbedding(
        model_name=server.embedding_model, api_base=server.base_url, api_key=server.api_key, embed_batch_size=2, max_retries=0
    )
    vectors = model.get_text_embedding_batch(["a cat", "a dog", "a cat"])
    assert len({len(vector) for vector in [*vectors, model.get_query_embedding("a cat")]}) == 1
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-3)
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-3)
