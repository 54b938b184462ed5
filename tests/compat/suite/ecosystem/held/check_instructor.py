"""instructor: answers as objects, in its modes, whole and growing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import instructor
import openai
import pytest
from kit.checks import checks
from kit.server import SECONDS, Server
from pydantic import BaseModel

check = checks("instructor", needs=("chat",))
ROME = [{"role": "user", "content": "It is 20 degrees in Rome."}]


class Weather(BaseModel):
    """The weather in a city."""

    city: Literal["Paris", "Rome", "Oslo"]
    degrees: Literal[0, 10, 20, 30]


@pytest.fixture
def ask(server: Server) -> Callable[..., Any]:
    def made(mode: instructor.Mode) -> tuple[Any, dict[str, Any]]:
        client = openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=SECONDS)
        told = {"model": server.model, "messages": ROME, "temperature": 0, "max_tokens": 64, "max_retries": 0}
        return instructor.from_openai(client, mode=mode).chat.completions, told

    return made


def whole(ask: Callable[..., Any], mode: instructor.Mode) -> None:
    completions, told = ask(mode)
    found, raw = completions.create_with_completion(response_model=Weather, **told)
    assert isinstance(found, Weather)
    assert raw.usage.completion_tokens > 0


def partial(ask: Callable[..., Any], mode: instructor.Mode) -> None:
    """Objects grow as they come; the last is whole."""
    completions, told = ask(mode)
    seen = list(completions.create_partial(response_model=Weather, **told))
    assert len(seen) > 1
    Weather.model_validate(seen[-1].model_dump())


@check("instructor.tools", "Mode TOOLS fills in an object.")
def check_tools(ask: Callable[..., Any]) -> None:
    whole(ask, instructor.Mode.TOOLS)


@check("instructor.tools.partial", "Mode TOOLS fills in an object that grows as it comes.")
def check_tools_partial(ask: Callable[..., Any]) -> None:
    partial(ask, instructor.Mode.TOOLS)


@check("instructor.tools-strict", "Mode TOOLS_STRICT fills in an object.")
def check_tools_strict(ask: Callable[..., Any]) -> None:
    whole(ask, instructor.Mode.TOOLS_STRICT)


@check("instructor.json-schema", "Mode JSON_SCHEMA fills in an object.")
def check_json_schema(ask: Callable[..., Any]) -> None:
    whole(ask, instructor.Mode.JSON_SCHEMA)


@check("instructor.json-schema.partial", "Mode JSON_SCHEMA fills in an object that grows as it comes.")
def check_json_schema_partial(ask: Callable[..., Any]) -> None:
    partial(ask, instructor.Mode.JSON_SCHEMA)


@check("instructor.json", "Mode JSON is answered with JSON; whether it has the right keys is the model's ability.")
def check_json(ask: Callable[..., Any]) -> None:
    completions, told = ask(instructor.Mode.JSON)

    class Anything(BaseModel):
        model_config = {"extra": "allow"}

    assert completions.create(response_model=Anything, **{**told, "max_tokens": 400}) is not None
