"""Responses, by OpenAI's Python SDK and by curl. Every answer and event also goes to the published schema."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from kit.checks import checks
from kit.curl import Curl
from kit.expect import assert_error, unless_refused
from kit.server import Server

check = checks("openai-python", needs=("responses",))
by_curl = checks("curl", needs=("responses",))
HI = "What is the capital of France? Answer in one sentence."
SHORT = "What is two and two? Answer with one number."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
FORCED = {"type": "function", "name": "get_weather"}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}


def ask(client: Any, server: Server, input: Any = HI, **fields: Any) -> Any:
    return client.responses.create(model=server.model, input=input, **{"max_output_tokens": 16, "temperature": 0, **fields})


@check("responses.whole", "A text gives a completed (or incomplete) response with a message, its text, and usage.")
def check_whole(server: Server, openai_client: Any) -> None:
    found = ask(openai_client, server)
    assert found.status in {"completed", "incomplete"}
    assert found.output_text
    assert found.output[-1].type == "message"
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens


@check("responses.not-streamed", "Without `stream` the answer is no stream.")
def check_not_streamed(server: Server, openai_client: Any) -> None:
    assert not isinstance(ask(openai_client, server), str), "raw text: a stream that nobody asked for"


@check("responses.incomplete", "max_output_tokens that are spent make the status incomplete, with the reason.")
def check_incomplete(server: Server, openai_client: Any) -> None:
    found = ask(openai_client, server, "Tell me a story about a fox and a river.")
    assert found.status == "incomplete"
    assert found.incomplete_details.reason == "max_output_tokens"


@check("responses.instructions", "instructions are given to the model: usage counts their tokens.")
def check_instructions(server: Server, openai_client: Any) -> None:
    short = ask(openai_client, server, instructions="Hi.").usage.input_tokens
    assert ask(openai_client, server, instructions="Be brief. " * 40).usage.input_tokens > short + 40


INPUTS: dict[str, tuple[str, Any]] = {
    "items": ("Input may be a list of messages.", [{"role": "user", "content": HI}]),
    "typed": (
        "Its items may say their type.",
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": HI}]}],
    ),
    "developer": (
        "Messages of the developer are taken.",
        [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": HI}],
    ),
    "assistant": (
        "Earlier answers come back as output_text.",
        [
            {"role": "user", "content": "Hi"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello!", "annotations": []}]},
            {"role": "user", "content": HI},
        ],
    ),
    "assistant-easy": (
        "Also as a plain text.",
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": HI}],
    ),
    "calls": (
        "Calls of functions and what they gave are taken.",
        [
            {"role": "user", "content": "What is the weather?"},
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        ],
    ),
}


def _input(name: str, says: str, items: Any) -> Any:
    @check(f"responses.input.{name}", says)
    def check_input(server: Server, openai_client: Any) -> None:
        assert ask(openai_client, server, items).status in {"completed", "incomplete"}

    return check_input


globals().update({f"check_input_{name}": _input(name, *given) for name, given in INPUTS.items()})


def events(client: Any, server: Server, **fields: Any) -> list[Any]:
    return list(ask(client, server, stream=True, **fields))


@check("responses.stream.order", "A stream begins with created and in_progress and ends with completed or incomplete.")
def check_order(server: Server, openai_client: Any) -> None:
    kinds = [event.type for event in events(openai_client, server)]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in {"response.completed", "response.incomplete"}
    inner = ["response.output_item.added", "response.content_part.added", "response.output_text.delta"]
    inner += ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert [kinds.index(kind) for kind in inner] == sorted(kinds.index(kind) for kind in inner)


@check("responses.stream.numbers", "sequence_number counts the events from 0.")
def check_numbers(server: Server, openai_client: Any) -> None:
    found = events(openai_client, server)
    assert [event.sequence_number for event in found] == list(range(len(found)))


@check("responses.stream.text", "The deltas are the text of output_text.done and of the last snapshot.")
def check_text(server: Server, openai_client: Any) -> None:
    found = events(openai_client, server)
    text = "".join(event.delta for event in found if event.type == "response.output_text.delta")
    done = [event.text for event in found if event.type == "response.output_text.done"]
    assert [text] == done
    assert found[-1].response.output_text == text


@check("responses.stream.snapshots", "Snapshots have one id; the first has no output and is in_progress, the last has usage.")
def check_snapshots(server: Server, openai_client: Any) -> None:
    found = [event.response for event in events(openai_client, server) if hasattr(event, "response")]
    assert len({snapshot.id for snapshot in found}) == 1
    assert (found[0].output, found[0].status) == ([], "in_progress")
    assert found[-1].usage.output_tokens > 0


@check("responses.stream.helper", "The SDK's stream() helper puts the response together.")
def check_helper(server: Server, openai_client: Any) -> None:
    with openai_client.responses.stream(model=server.model, input=SHORT, max_output_tokens=200, temperature=0) as stream:
        kinds = [event.type for event in stream]
        if kinds[-1] == "response.incomplete":
            pytest.skip("the model did not end within 200 tokens, and the SDK gives no incomplete response")
        assert stream.get_final_response().output_text


@by_curl("responses.stream.named", "Each event is named as its type.")
def check_named(curl: Curl, server: Server) -> None:
    answer = curl.post("/responses", {"model": server.model, "input": HI, "max_output_tokens": 16, "stream": True})
    found = [(event, data) for event, data in answer.events() if data != "[DONE]"]
    assert found
    assert all(event == json.loads(data)["type"] for event, data in found)


@check("responses.tools.forced", "tool_choice that names a function makes the output a function_call with JSON arguments.")
def check_forced(server: Server, openai_client: Any) -> None:
    with unless_refused("tool"):
        found = ask(openai_client, server, tools=[WEATHER], tool_choice=FORCED, max_output_tokens=64)
    calls = [item for item in found.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["get_weather"]
    assert set(json.loads(calls[0].arguments)) == {"city"}
    assert calls[0].call_id


@check("responses.tools.stream", "A streamed call comes as function_call_arguments.delta and .done.")
def check_tools_stream(server: Server, openai_client: Any) -> None:
    with unless_refused("tool"):
        found = events(openai_client, server, tools=[WEATHER], tool_choice=FORCED, max_output_tokens=64)
    pieces = "".join(event.delta for event in found if event.type == "response.function_call_arguments.delta")
    done = [event.arguments for event in found if event.type == "response.function_call_arguments.done"]
    assert [pieces] == done
    assert set(json.loads(pieces)) == {"city"}


@check("responses.tools.round", "A call's result goes in as function_call_output after the call itself.")
def check_round(server: Server, openai_client: Any) -> None:
    with unless_refused("tool"):
        first = ask(openai_client, server, tools=[WEATHER], tool_choice=FORCED, max_output_tokens=64)
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"sky": "clear"}'}
    again = [{"role": "user", "content": HI}, call.to_dict(), result]
    assert ask(openai_client, server, again, tools=[WEATHER], tool_choice="none").output_text


@check("responses.tools.unserved", "Tools that the server does not have are left out, not a reason to fail.", promise="ours")
def check_unserved(server: Server, openai_client: Any) -> None:
    tools = [{"type": "web_search"}, {"type": "image_generation"}, WEATHER]
    assert ask(openai_client, server, tools=tools).output_text


@check("responses.tools.custom", "A custom tool is called with a text.", promise="ours")
def check_custom(server: Server, openai_client: Any) -> None:
    tool = {"type": "custom", "name": "apply_patch", "description": "Applies a patch."}
    with unless_refused("tool"):
        found = ask(
            openai_client, server, tools=[tool], tool_choice={"type": "custom", "name": "apply_patch"}, max_output_tokens=32
        )
    assert found.status in {"completed", "incomplete"}
    assert all(item.type in {"custom_tool_call", "message", "reasoning"} for item in found.output)


@check("responses.text.json_schema", "text.format with a JSON schema gives JSON that keeps to it.")
def check_json_schema(server: Server, openai_client: Any) -> None:
    wanted = {"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}}
    with unless_refused("text", "format"):
        found = ask(openai_client, server, text=wanted, max_output_tokens=64)
    assert set(json.loads(found.output_text)) == {"city"}


@check("responses.text.parse", "The SDK's parse() gives an object of the caller's class.")
def check_parse(server: Server, openai_client: Any) -> None:
    from pydantic import BaseModel, Field

    class City(BaseModel):
        city: str = Field(max_length=12)

    with unless_refused("text", "format"):
        found = openai_client.responses.parse(model=server.model, input=HI, text_format=City, max_output_tokens=64)
    assert isinstance(found.output_parsed, City)


def stored(client: Any, found: Any) -> None:
    """Skips where the server keeps nothing, and says so by a 404 of the route."""
    try:
        client.responses.retrieve(found.id)
    except (openai.NotFoundError, openai.APIStatusError) as error:
        if error.status_code in {404, 405, 501}:
            pytest.skip(f"absent: responses are not kept ({error.status_code})")
        raise


@check("responses.stored.get", "A response can be read again, the same, by its id.")
def check_get(server: Server, openai_client: Any) -> None:
    found = ask(openai_client, server)
    stored(openai_client, found)
    assert openai_client.responses.retrieve(found.id).output_text == found.output_text


@check("responses.stored.items", "Its input can be listed, each item with an id.")
def check_items(server: Server, openai_client: Any) -> None:
    found = ask(openai_client, server)
    stored(openai_client, found)
    items = openai_client.responses.input_items.list(found.id).data
    assert [item.role for item in items] == ["user"]
    assert items[0].id


@check("responses.stored.delete", "It can be deleted, and is then a 404.")
def check_delete(server: Server, openai_client: Any) -> None:
    found = ask(openai_client, server)
    stored(openai_client, found)
    openai_client.responses.delete(found.id)
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.retrieve(found.id)


@check("responses.stored.not", "With store=False nothing is kept.")
def check_not_stored(server: Server, openai_client: Any) -> None:
    stored(openai_client, ask(openai_client, server))
    found = ask(openai_client, server, store=False)
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.retrieve(found.id)


@check("responses.previous", "previous_response_id goes on with that conversation: usage counts it.")
def check_previous(server: Server, openai_client: Any) -> None:
    first = ask(openai_client, server, "My name is Ann. " * 20)
    with unless_refused("previous_response_id"):
        second = ask(openai_client, server, "What is my name?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    alone = ask(openai_client, server, "What is my name?").usage.input_tokens
    assert second.usage.input_tokens > alone + 40, "the earlier conversation was not given to the model"


@check("responses.previous.instructions", "Instructions hold for one response: the next one does not inherit them.")
def check_not_inherited(server: Server, openai_client: Any) -> None:
    first = ask(openai_client, server, "Hi", instructions="Be brief. " * 60)
    with unless_refused("previous_response_id"):
        second = ask(openai_client, server, "Hi", previous_response_id=first.id)
    assert second.usage.input_tokens < first.usage.input_tokens


@by_curl("responses.previous.unknown", "An unknown previous_response_id is a 404 (or 400), not an answer without it.")
def check_unknown_previous(curl: Curl, server: Server) -> None:
    body = {"model": server.model, "input": "Hi", "max_output_tokens": 16, "previous_response_id": "resp_" + "0" * 48}
    assert_error(curl.post("/responses", body), 400, 404)


@check("responses.conversation", "A conversation is made, and what is said in it is in its items.", needs=("conversations",))
def check_conversation(server: Server, openai_client: Any) -> None:
    conversation = openai_client.conversations.create()
    found = ask(openai_client, server, conversation=conversation.id)
    items = openai_client.conversations.items.list(conversation.id).data
    assert found.conversation.id == conversation.id
    assert {item.role for item in items if item.type == "message"} == {"user", "assistant"}


@check("responses.background", "A response in the background is queued and can be read until it is done.")
def check_background(server: Server, openai_client: Any) -> None:
    import time

    with unless_refused("background"):
        found = ask(openai_client, server, background=True)
    assert found.status in {"queued", "in_progress", "completed", "incomplete"}
    deadline = time.monotonic() + 30
    while found.status in {"queued", "in_progress"} and time.monotonic() < deadline:
        time.sleep(0.2)
        found = openai_client.responses.retrieve(found.id)
    assert found.status in {"completed", "incomplete"}
    assert found.output_text


@check("responses.cancel", "A response in the background can be cancelled.")
def check_cancel(server: Server, openai_client: Any) -> None:
    with unless_refused("background"):
        found = ask(openai_client, server, "Tell me a story.", background=True, max_output_tokens=1500)
    if found.status not in {"queued", "in_progress"}:
        pytest.skip("absent: nothing runs in the background")
    assert openai_client.responses.cancel(found.id).status == "cancelled"


@check("responses.input_tokens", "The tokens of an input can be counted without an answer.", needs=("responses.input_tokens",))
def check_input_tokens(server: Server, openai_client: Any) -> None:
    counted = openai_client.responses.input_tokens.count(model=server.model, input=HI)
    assert counted.input_tokens == ask(openai_client, server).usage.input_tokens


@by_curl(
    "responses.fields",
    "What Codex sends is taken: include, prompt_cache_key, client_metadata, reasoning, parallel_tool_calls.",
    promise="ours",
)
def check_codex(curl: Curl, server: Server) -> None:
    body = {
        "model": server.model,
        "instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "tools": [WEATHER],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": None,
        "store": False,
        "stream": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "key",
        "client_metadata": {"a": "b"},
        "max_output_tokens": 16,
    }
    answer = curl.post("/responses", body)
    assert answer.status == 200, answer.text[:200]


@by_curl("responses.metadata", "metadata comes back.")
def check_metadata(curl: Curl, server: Server) -> None:
    body = {"model": server.model, "input": "Hi", "max_output_tokens": 16, "metadata": {"a": "b"}}
    assert curl.post("/responses", body).json()["metadata"] == {"a": "b"}


@check("responses.error.model", "An unknown model is a NotFoundError with the code model_not_found.")
def check_unknown_model(openai_client: Any) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        openai_client.responses.create(model="no-such-model-anywhere", input="Hi", max_output_tokens=16)
    assert (caught.value.status_code, caught.value.code) == (404, "model_not_found")


@by_curl("responses.error.unknown", "An unknown response is a 404 with OpenAI's error body.")
def check_unknown(curl: Curl) -> None:
    assert_error(curl.get("/responses/resp_" + "0" * 48), 404)


@by_curl("responses.error.input", "An item of no known type is a 400 that names the input.")
def check_bad_item(curl: Curl, server: Server) -> None:
    answer = curl.post("/responses", {"model": server.model, "input": [{"type": "smell"}], "max_output_tokens": 16})
    assert_error(answer, 400)
    assert str(answer.json()["error"]["param"]).startswith("input")


@check("responses.left", "A client that leaves a stream frees the server for the next ones.")
def check_left(server: Server, openai_client: Any) -> None:
    for _ in range(6):
        stream = ask(openai_client, server, "Tell me a story.", max_output_tokens=1500, stream=True)
        next(iter(stream))
        stream.close()
    assert ask(openai_client.with_options(timeout=12), server).output_text
