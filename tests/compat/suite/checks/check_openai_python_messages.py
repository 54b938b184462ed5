"""The shapes of messages and tools that clients send, by OpenAI's Python SDK."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from kit.checks import checks
from kit.expect import finishes, unless_refused
from kit.server import Server

check = checks("openai-python", needs=("chat",))
USER = {"role": "user", "content": "Hello!"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
FORCED = {"type": "function", "function": {"name": "get_weather"}}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def ask(client: Any, server: Server, *messages: Any, **fields: Any) -> Any:
    asked = {"max_tokens": 4, "temperature": 0, **fields}
    return client.chat.completions.create(model=server.model, messages=messages or [USER], **asked)


SHAPES: dict[str, tuple[str, list[Any]]] = {
    "developer": ("A message of the developer is taken.", [{"role": "developer", "content": "Be brief."}, USER]),
    "system-later": (
        "A system message in mid-conversation is taken.",
        [USER, {"role": "system", "content": "Be brief."}, USER],
    ),
    "parts": (
        "Content may be a list of text parts.",
        [{"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}]}],
    ),
    "system-parts": (
        "Also that of a system message.",
        [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, USER],
    ),
    "assistant-parts": (
        "Also that of an assistant's message.",
        [USER, {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}, USER],
    ),
    "name": ("A message may have a name.", [{**USER, "name": "ann"}]),
    "two-users": ("Two messages of a user may follow each other.", [USER, USER]),
    "assistant-null": (
        "An assistant's content may be null where it calls tools.",
        [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        ],
    ),
    "assistant-absent": (
        "An assistant's content may be absent where it calls tools.",
        [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "sun"}],
    ),
    "tool-parts": (
        "A tool's content may be a list of text parts.",
        [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sun"}]},
        ],
    ),
}
OURS: dict[str, tuple[str, list[Any]]] = {
    "tool-calls-null": (
        "`tool_calls: null` is as if it were not there.",
        [USER, {"role": "assistant", "content": "Hi", "tool_calls": None}, USER],
    ),
    "arguments-empty": (
        "Earlier arguments may be empty or no JSON.",
        [
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": ""}},
                    {"id": "call_2", "type": "function", "function": {"name": "get_time", "arguments": "{broken"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
            {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
        ],
    ),
    "reasoning-back": (
        "An assistant's reasoning may come back as `reasoning_content`.",
        [USER, {"role": "assistant", "content": "Hi", "reasoning_content": "A greeting."}, USER],
    ),
}


def _shape(name: str, says: str, messages: list[Any], promise: str) -> Any:
    @check(f"chat.message.{name}", says, promise=promise)
    def check_shape(server: Server, openai_client: Any) -> None:
        answer = ask(openai_client, server, *messages)
        assert answer.choices[0].finish_reason

    return check_shape


for kind, shapes in {"openai": SHAPES, "ours": OURS}.items():
    globals().update({f"check_{name}": _shape(name, *given, kind) for name, given in shapes.items()})


@check("chat.message.system-heard", "A system message changes what the model is given: usage counts its tokens.")
def check_system_heard(server: Server, openai_client: Any) -> None:
    short = ask(openai_client, server, {"role": "system", "content": "Hi."}, USER).usage.prompt_tokens
    long = ask(openai_client, server, {"role": "system", "content": "Be brief. " * 40}, USER).usage.prompt_tokens
    assert long > short + 40


@check("chat.message.developer-heard", "So does a developer's.")
def check_developer_heard(server: Server, openai_client: Any) -> None:
    short = ask(openai_client, server, {"role": "developer", "content": "Hi."}, USER).usage.prompt_tokens
    long = ask(openai_client, server, {"role": "developer", "content": "Be brief. " * 40}, USER).usage.prompt_tokens
    assert long > short + 40


@check("chat.message.bad-role", "A role that does not exist is a 400.")
def check_bad_role(server: Server, openai_client: Any) -> None:
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)) as caught:
        ask(openai_client, server, {"role": "wizard", "content": "Hi"})
    assert caught.value.status_code == 400


@check("chat.message.image-unseen", "An image for a model without eyes is a 400, not an answer that has not seen it.")
def check_image_unseen(server: Server, openai_client: Any) -> None:
    if server.vision_model == server.model:
        pytest.skip("the model sees")
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    with pytest.raises(openai.APIStatusError) as caught:
        ask(openai_client, server, {"role": "user", "content": content})
    assert caught.value.status_code == 400


@check("chat.message.image", "A model with eyes takes an image as a data URL.", needs=("vision",))
def check_image(server: Server, openai_client: Any) -> None:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}]
    messages: Any = [{"role": "user", "content": content}]
    answer = openai_client.chat.completions.create(model=server.vision_model, messages=messages, max_tokens=4)
    assert answer.choices[0].finish_reason


@check("chat.tools.forced", "tool_choice that names a function makes the answer a call of it, with its arguments as JSON.")
def check_forced(server: Server, openai_client: Any) -> None:
    with unless_refused("tool"):
        answer = ask(openai_client, server, tools=[WEATHER, TIME], tool_choice=FORCED, max_tokens=64)
    calls = answer.choices[0].message.tool_calls
    assert calls, "ignored"
    assert [call.function.name for call in calls] == ["get_weather"]
    assert set(json.loads(calls[0].function.arguments)) == {"city"}
    assert calls[0].id
    assert calls[0].type == "function"
    assert answer.choices[0].finish_reason in {"stop", "tool_calls"}


@check("chat.tools.required", "tool_choice required makes the answer a call, with the finish_reason tool_calls.")
def check_required(server: Server, openai_client: Any) -> None:
    with unless_refused("tool"):
        answer = ask(openai_client, server, tools=[WEATHER], tool_choice="required", max_tokens=64)
    assert answer.choices[0].message.tool_calls, "ignored"
    assert answer.choices[0].finish_reason == "tool_calls"


@check("chat.tools.none", "tool_choice none calls nothing.")
def check_none(server: Server, openai_client: Any) -> None:
    answer = ask(openai_client, server, tools=[WEATHER], tool_choice="none")
    assert not answer.choices[0].message.tool_calls


@check("chat.tools.stream", "The first piece of a streamed call has id, type and name, the later ones only arguments.")
def check_tools_stream(server: Server, openai_client: Any) -> None:
    with unless_refused("tool"):
        chunks = list(ask(openai_client, server, tools=[WEATHER], tool_choice=FORCED, max_tokens=64, stream=True))
    pieces = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert pieces, "ignored"
    assert pieces[0].id, "no id"
    assert (pieces[0].type, pieces[0].function.name) == ("function", "get_weather")
    assert not [piece for piece in pieces[1:] if piece.id or piece.function.name], "id or name came twice"
    assert {piece.index for piece in pieces} == {0}
    assert set(json.loads("".join(piece.function.arguments or "" for piece in pieces))) == {"city"}
    assert finishes(chunks) in (["stop"], ["tool_calls"])


@check("chat.tools.strict", "A tool with `strict` is taken, and its arguments keep to its schema.")
def check_strict(server: Server, openai_client: Any) -> None:
    tool = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}
    with unless_refused("tool", "strict"):
        answer = ask(openai_client, server, tools=[tool], tool_choice="required", max_tokens=64)
    assert answer.choices[0].message.tool_calls, "ignored"
    assert set(json.loads(answer.choices[0].message.tool_calls[0].function.arguments)) == {"city"}


@check("chat.tools.round", "A conversation with a call and its result goes on, with the tools still there.")
def check_round(server: Server, openai_client: Any) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "clear"}'}
    with unless_refused("tool"):
        answer = ask(openai_client, server, USER, called, result, tools=[WEATHER], tool_choice="none", max_tokens=8)
    assert answer.choices[0].finish_reason in {"stop", "length"}


@check("chat.tools.unknown-choice", "tool_choice that names no given function is a 400.")
def check_unknown_choice(server: Server, openai_client: Any) -> None:
    choice = {"type": "function", "function": {"name": "nobody"}}
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)) as caught:
        ask(openai_client, server, tools=[WEATHER], tool_choice=choice, max_tokens=16)
    assert caught.value.status_code == 400
