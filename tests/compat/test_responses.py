"""Responses and conversations as the openai package has them: whole, streamed, in the background, and over restarts."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pydantic
import pytest

PATIENCE = 60.0
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
CONFIG = """
[server]
shutdown_grace = 0.5
request_timeout = 60
[workers]
fork_server = false
restart_backoff = 0.2
[storage]
dir = "@KEPT@"
[models.echo]
source = "@NOTHING@"
kind = "echo"
max_wait = 600
"""


class Answer(pydantic.BaseModel):
    word: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("responses")
    (folder / "nothing").mkdir()
    text = CONFIG.replace("@KEPT@", str(folder / "kept")).replace("@NOTHING@", str(folder / "nothing"))
    (folder / "config.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def running(serve: Callable[..., Any], home: Path) -> Iterator[Any]:
    server = serve(home / "config.toml", home)
    yield server
    assert server.stop() == 0, server.log.read_text()


@pytest.fixture
def sdk(running: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=0) as client:
        yield client


def test_a_turn_follows_a_turn(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model="echo", input="one two", instructions="be brief")
    assert (first.output_text, first.status, first.error) == ("one two", "completed", None)
    second = sdk.responses.create(model="echo", input="three", previous_response_id=first.id)
    assert second.usage is not None
    assert second.usage.input_tokens == 5
    assert sdk.responses.retrieve(second.id) == second
    items = list(sdk.responses.input_items.list(second.id, order="asc"))
    assert [item.content[0].text for item in items] == ["three"]  # type: ignore[union-attr]
    counted = sdk.responses.input_tokens.count(model="echo", input="four", previous_response_id=second.id)
    assert counted.input_tokens == 7
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(first.id)


def test_a_stream_is_read_by_the_package(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(model="echo", input="one two three") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two three"
    assert (events[-1].type, final.output_text) == ("response.completed", "one two three")
    assert sdk.responses.retrieve(final.id).output_text == "one two three"


def test_a_tool_is_called_and_its_output_gone_on_from(sdk: openai.OpenAI) -> None:
    answer = '[[tool_parser=json]] [[answer={"name": "weather", "arguments": {"city": "Rome"}}]] [[then=Sunny]]'
    asked = {"model": "echo", "tools": [WEATHER]}
    first = sdk.responses.create(input=answer, **asked)  # type: ignore[call-overload]
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Rome"})
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = sdk.responses.create(input=[output], previous_response_id=first.id, **asked)  # type: ignore[call-overload]
    assert second.output_text == "Sunny"


def test_conversations_are_as_the_package_has_them(sdk: openai.OpenAI) -> None:
    made = sdk.conversations.create(items=[{"role": "user", "content": "one"}], metadata={"a": "b"})
    assert sdk.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    added = sdk.conversations.items.create(made.id, items=[{"role": "assistant", "content": "two"}])
    with sdk.responses.stream(model="echo", input="three", conversation=made.id) as stream:
        final = stream.get_final_response()
    assert final.conversation is not None
    assert (final.conversation.id, final.usage and final.usage.input_tokens) == (made.id, 3)
    items = list(sdk.conversations.items.list(made.id, order="asc", limit=2))
    assert [item.content[0].text for item in items] == ["one", "two", "three", "three"]  # type: ignore[union-attr]
    item = sdk.conversations.items.retrieve(added.last_id, conversation_id=made.id)
    assert item.role == "assistant"  # type: ignore[union-attr]
    assert sdk.conversations.items.delete(added.last_id, conversation_id=made.id).id == made.id
    assert sdk.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.conversations.retrieve(made.id)


def test_a_background_stream_is_taken_up_again_where_it_was_left(sdk: openai.OpenAI) -> None:
    stream = sdk.responses.create(model="echo", input="[[delay=0.02]] [[tokens=60]] sea", background=True, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if len(seen) == 10:
            break
    stream.close()
    id = seen[0].response.id  # type: ignore[union-attr]
    seen += sdk.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert (seen[-1].type, text) == ("response.completed", sdk.responses.retrieve(id).output_text)
    with sdk.responses.stream(response_id=id, starting_after=5) as helper:
        assert helper.get_final_response().output_text == text


def test_a_background_response_is_polled_and_cancelled(sdk: openai.OpenAI) -> None:
    started = sdk.responses.create(model="echo", input="[[delay=0.02]] [[tokens=2000]] sea", background=True)
    assert started.status == "queued"
    assert sdk.responses.cancel(started.id).status == "cancelled"
    assert sdk.responses.cancel(started.id).status == sdk.responses.retrieve(started.id).status == "cancelled"


def test_the_work_of_a_client_that_leaves_its_stream_ends_and_what_there_was_is_kept(sdk: openai.OpenAI, running: Any) -> None:
    stream = sdk.responses.create(model="echo", input="[[delay=0.02]] [[tokens=5000]] sea", stream=True)
    id = next(event.response.id for event in stream if event.type == "response.created")
    next(event for event in stream if event.type == "response.output_text.delta")
    stream.close()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found = sdk.responses.retrieve(id)
            break
        except openai.NotFoundError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (found.status, found.output[0].status) == ("cancelled", "incomplete")  # type: ignore[union-attr]
    began = time.monotonic()
    assert sdk.responses.create(model="echo", input="next").output_text == "next"
    assert time.monotonic() - began < 50, "the model still works for the one who left"


def test_twenty_at_once_are_each_answered_as_they_asked(running: Any) -> None:
    async def talk(client: openai.AsyncOpenAI, number: int) -> list[str]:
        said, previous = [], None
        for turn in range(3):
            more = {} if previous is None else {"previous_response_id": previous}
            async with client.responses.stream(model="echo", input=f"[[delay=0.01]] w{number} t{turn}", **more) as stream:
                final = await stream.get_final_response()
            said.append(final.output_text)
            previous = final.id
        return said

    async def scenario() -> list[list[str]]:
        async with openai.AsyncOpenAI(base_url=running.base_url, api_key="none", max_retries=20) as client:
            return await asyncio.gather(*(talk(client, number) for number in range(20)))

    assert asyncio.run(scenario()) == [[f"w{number} t{turn}" for turn in range(3)] for number in range(20)]


def test_a_reload_in_mid_stream_changes_nothing_for_who_reads(running: Any, home: Path, sdk: openai.OpenAI) -> None:
    config = home / "config.toml"
    before = config.read_text()
    stream = sdk.responses.create(model="echo", input="[[delay=0.02]] [[tokens=60]] sea", stream=True)
    next(iter(stream))
    config.write_text(before + "[responses]\nmax_per_key = 5\n")
    running.process.send_signal(signal.SIGHUP)
    assert [event.type for event in stream][-1] == "response.completed"
    deadline = time.monotonic() + PATIENCE
    while "responses.max_per_key" not in running.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ids = [sdk.responses.create(model="echo", input="x").id for _ in range(7)]
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(ids[0])
    assert sdk.responses.retrieve(ids[-1]).id == ids[-1]
    config.write_text(before)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_conversation_goes_on_after_the_server_was_ended(
    serve: Callable[..., Any], home: Path, tmp_path: Path, how: signal.Signals
) -> None:
    config = tmp_path / "config.toml"
    config.write_text((home / "config.toml").read_text().replace(str(home / "kept"), str(tmp_path / "kept")))
    server = serve(config, tmp_path, "--inline")
    client = openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0)
    first = client.responses.create(model="echo", input="one two")
    with client.responses.stream(model="echo", input="three", previous_response_id=first.id) as stream:
        second = stream.get_final_response()
    cut_off = client.responses.create(model="echo", input="[[delay=0.05]] [[tokens=4000]] sea", background=True)
    server.process.send_signal(how)
    server.process.wait(PATIENCE)
    server = serve(config, tmp_path, "--inline")
    client = openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0)
    third = client.responses.create(model="echo", input="four", previous_response_id=second.id)
    assert third.usage is not None
    assert (third.output_text, third.usage.input_tokens) == ("four", 7)
    failed = client.responses.retrieve(cut_off.id)
    assert (failed.status, failed.error and failed.error.code) == ("failed", "server_error")
    assert server.stop() == 0


@pytest.mark.slow
def test_two_turns_by_the_real_model_across_a_restart(
    start_server: Callable[..., Any], tmp_path: Path, model: str, model_source: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[storage]\ndir = {json.dumps(str(tmp_path / 'kept'))}\n[models.{model}]\n{model_source}")
    server = start_server(config)
    asked: dict[str, Any] = {"model": model, "temperature": 0, "max_output_tokens": 16}
    client = openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0)
    first = client.responses.create(input="My name is Ada. Say hello.", **asked)
    assert server.stop() == 0
    client = openai.OpenAI(base_url=start_server(config).base_url, api_key="none", max_retries=0)
    second = client.responses.create(input="What is my name?", previous_response_id=first.id, **asked)
    alone = client.responses.create(input="What is my name?", **asked)
    assert second.usage is not None
    assert first.usage is not None
    assert alone.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert second.output_text
    said = [{"role": "user", "content": "My name is Ada. Say hello."}, {"role": "assistant", "content": first.output_text}]
    whole = client.responses.create(input=[*said, {"role": "user", "content": "What is my name?"}], **asked)
    assert whole.output_text == second.output_text
    words = "Answer with the word sea as JSON."
    parsed = client.responses.parse(model=model, input=words, text_format=Answer, temperature=0, max_output_tokens=60)
    assert isinstance(parsed.output_parsed, Answer)


def test_many_readers_of_one_background_response_each_get_all_of_it(running: Any, sdk: openai.OpenAI) -> None:
    id = sdk.responses.create(model="echo", input="[[delay=0.01]] [[tokens=100]] sea", background=True).id
    url = f"{running.base_url}/responses/{id}?stream=true"
    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(lambda _: httpx2.get(url, timeout=PATIENCE).text.replace(": ping\n\n", ""), range(8)))
    assert len(texts) == 1
    assert '"response.completed"' in texts.pop()
