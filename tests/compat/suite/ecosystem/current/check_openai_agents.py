"""OpenAI's Agents SDK: an agent that calls a tool, is given what the tool said, and answers; by both APIs.

The model is told that it must call a tool, and the SDK takes that back once one was called, as it does by default. Arguments
are of a list, so that a small model's call is right wherever the server holds it to the tool's schema.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
)
from agents.items import HandoffOutputItem, ToolCallItem, ToolCallOutputItem
from kit.checks import checks
from kit.server import SECONDS, Server
from openai import AsyncOpenAI
from pydantic import BaseModel

chat = checks("openai-agents", needs=("chat",))
responses = checks("openai-agents", needs=("responses",))
City = Literal["Paris", "Rome", "Oslo"]
QUIET = RunConfig(tracing_disabled=True)
QUESTION = "What is the weather in Paris? Use the tool."


class Weather(BaseModel):
    city: City
    sunny: bool


class Desk:
    """An agent's model by either API, and the calls that its tool was given."""

    def __init__(self, server: Server) -> None:
        self.client = AsyncOpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=SECONDS)
        self.calls: list[str] = []
        self._model = server.model

    def model(self, api: str) -> Any:
        kind = OpenAIResponsesModel if api == "responses" else OpenAIChatCompletionsModel
        return kind(model=self._model, openai_client=self.client)

    def agent(self, api: str, **options: Any) -> Agent[Any]:
        @function_tool
        def get_weather(city: City) -> str:
            """The weather in a city, now."""
            self.calls.append(city)
            return f"It is sunny in {city}, 21 degrees."

        told = {"model_settings": settings(tool_choice="required"), "tools": [get_weather], **options}
        return Agent(
            name="Helper",
            instructions="You help with the weather. Answer in one short sentence.",
            model=self.model(api),
            **told,
        )


def settings(**more: Any) -> ModelSettings:
    """Room for an answer of any model: by the Responses API the SDK takes one that is cut off for a failure."""
    return ModelSettings(temperature=0, max_tokens=400, include_usage=True, **more)


@pytest.fixture
def desk(server: Server) -> Desk:
    return Desk(server)


def assert_looped(desk: Desk, result: Any) -> None:
    """The tool was called once with what its schema allows, its answer went back, and a text came of it."""
    assert desk.calls in [["Paris"], ["Rome"], ["Oslo"]], desk.calls
    called = [item for item in result.new_items if isinstance(item, ToolCallItem)]
    answered = [item for item in result.new_items if isinstance(item, ToolCallOutputItem)]
    assert [item.raw_item.name for item in called] == ["get_weather"]
    assert answered[0].raw_item["call_id"] == called[0].raw_item.call_id
    assert "sunny" in answered[0].output
    assert isinstance(result.final_output, str)
    assert result.final_output.strip()


async def streamed(desk: Desk, api: str) -> None:
    result = Runner.run_streamed(desk.agent(api), QUESTION, run_config=QUIET)
    kinds, text = [], []
    async for event in result.stream_events():
        if event.type == "run_item_stream_event":
            kinds.append(event.name)
        elif event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text.append(event.data.delta)
    assert_looped(desk, result)
    assert kinds == ["tool_called", "tool_output", "message_output_created"], kinds
    assert "".join(text).endswith(result.final_output)
    assert result.context_wrapper.usage.requests == 2
    assert result.context_wrapper.usage.output_tokens > 0


async def structured(desk: Desk, api: str) -> None:
    agent = desk.agent(api, tools=[], output_type=AgentOutputSchema(Weather), model_settings=settings())
    result = await Runner.run(agent, "It is sunny in Rome.", run_config=QUIET)
    assert isinstance(result.final_output, Weather)


async def handed_over(desk: Desk, api: str) -> None:
    expert = desk.agent(api, tools=[], model_settings=settings())
    expert.name = "Expert"
    first = desk.agent(api, tools=[], handoffs=[expert])
    result = await Runner.run(first, "Hand over to the expert.", run_config=QUIET)
    assert result.last_agent is expert
    assert any(isinstance(item, HandoffOutputItem) for item in result.new_items)
    assert result.final_output.strip()


@chat("agents.chat.loop", "An agent calls its tool, gets the result, and answers, by chat completions.")
async def check_chat_loop(desk: Desk) -> None:
    assert_looped(desk, await Runner.run(desk.agent("chat"), QUESTION, run_config=QUIET))


@chat("agents.chat.streamed", "The loop as a stream: its events come in order, with the tokens of both requests.")
async def check_chat_streamed(desk: Desk) -> None:
    await streamed(desk, "chat")


@chat("agents.chat.structured", "An agent's answer is an object of its output type, by chat completions.")
async def check_chat_structured(desk: Desk) -> None:
    await structured(desk, "chat")


@chat("agents.chat.handoff", "An agent hands over to another one, by chat completions.")
async def check_chat_handoff(desk: Desk) -> None:
    await handed_over(desk, "chat")


@responses("agents.responses.loop", "An agent calls its tool, gets the result, and answers, by the Responses API.")
async def check_responses_loop(desk: Desk) -> None:
    assert_looped(desk, await Runner.run(desk.agent("responses"), QUESTION, run_config=QUIET))


@responses("agents.responses.streamed", "The loop as a stream: its events come in order, with the tokens of both requests.")
async def check_responses_streamed(desk: Desk) -> None:
    await streamed(desk, "responses")


@responses("agents.responses.structured", "An agent's answer is an object of its output type, by the Responses API.")
async def check_responses_structured(desk: Desk) -> None:
    await structured(desk, "responses")


@responses("agents.responses.handoff", "An agent hands over to another one, by the Responses API.")
async def check_responses_handoff(desk: Desk) -> None:
    await handed_over(desk, "responses")


@responses("agents.responses.previous", "The loop goes on from the server's copy: each turn sends only what is new.")
async def check_responses_previous(desk: Desk) -> None:
    result = await Runner.run(desk.agent("responses"), QUESTION, run_config=QUIET, auto_previous_response_id=True)
    assert_looped(desk, result)
    assert result.last_response_id
    again = await Runner.run(
        desk.agent("responses", tools=[], model_settings=settings()),
        "Thanks.",
        previous_response_id=result.last_response_id,
        run_config=QUIET,
    )
    assert again.final_output.strip()


@responses("agents.responses.session", "A session's history, sent again as items, is taken.")
async def check_responses_session(desk: Desk) -> None:
    session = SQLiteSession("conformance")
    assert_looped(desk, await Runner.run(desk.agent("responses"), QUESTION, session=session, run_config=QUIET))
    plain = desk.agent("responses", tools=[], model_settings=settings())
    result = await Runner.run(plain, "And in Rome?", session=session, run_config=QUIET)
    assert result.final_output.strip()
    assert len(await session.get_items()) >= 6
