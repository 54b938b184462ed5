"""Anthropic's API through the `anthropic` package, by the default model and by scripted ones."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from openai_compat.gateway.store.place import DATABASE
from openai_compat.keys.file import KeyFile
from openai_compat.keys.keeper import KeyKeeper
from schemas.admin import CreateKey, Limits

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects
CITY = {"type": "string", "maxLength": 40}
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": CITY, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
NOW: Any = {"name": "now", "input_schema": {"type": "object", "properties": {}}}
PARIS = {"city": "Paris {é}", "unit": "celsius"}
MARK: Any = {"cache_control": {"type": "ephemeral"}}
ELSEWHERE = b'{"model": "nowhere", "messages": [{"role": "user", "content": "Hi"}]}'
KINDS = {
    anthropic.NotFoundError: "not_found_error",
    anthropic.BadRequestError: "invalid_request_error",
    anthropic.ContentTooLargeError: "request_too_large",
}
CALLS = (
    'Let me see. <tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris {é}", "unit": "celsius"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)
THINKS = "[[reasoning_parser=think]]<think>\nWell, Paris.\n</think>\n\nParis."
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def claude(server: Any) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.origin, api_key="none", max_retries=0) as client:
        yield client


def asked(text: Any) -> list[Any]:
    return [{"role": "user", "content": text}]


def streamed(client: anthropic.Anthropic, **fields: Any) -> Any:
    """The message as the SDK puts it together."""
    with client.messages.stream(**fields) as stream:
        return stream.get_final_message()


def said(message: Any) -> list[dict[str, Any]]:
    """The content, without what differs from one answer to the next."""
    blocks = [block.to_dict() for block in message.content]
    return [{name: value for name, value in block.items() if name not in ("id", "parsed_output")} for block in blocks]


# ---------------------------------------------------------------- words


@pytest.mark.usefixtures("exact_numbers")
def test_an_answer_is_the_same_whole_and_streamed(claude: anthropic.Anthropic, model: str) -> None:
    fields: Any = {"model": model, "max_tokens": 24, "messages": asked("Say hello."), "extra_body": {"temperature": 0}}
    whole = claude.messages.create(**fields)
    final = streamed(claude, **fields)
    assert said(whole) == said(final)
    assert whole.content[0].type == "text"
    assert whole.content[0].text
    assert (whole.type, whole.role, whole.model, whole.stop_reason) == ("message", "assistant", model, final.stop_reason)
    assert whole.id.startswith("msg_")
    assert whole.id != final.id
    assert whole.usage.output_tokens == final.usage.output_tokens > 0


def test_the_events_have_the_names_and_the_order_that_clients_expect(http: httpx2.Client) -> None:
    body = {"model": "echo", "max_tokens": 50, "stream": True, "messages": asked("one two")}
    answer = http.post(
        "/v1/messages?beta=true", json=body, headers={"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    frames = [frame.split("\n") for frame in answer.text.strip().split("\n\n")]
    events = [json.loads(data.removeprefix("data: ")) for _, data in frames]
    assert [name for name, _ in frames] == [f"event: {event['type']}" for event in events]
    assert [event["type"] for event in events if event["type"] != "content_block_delta"] == [
        "message_start", "ping", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta") == "one two"
    assert events[0]["message"]["usage"]["input_tokens"] > 0


def test_the_beta_client_and_the_asynchronous_one_are_served_too(server: Any, claude: anthropic.Anthropic) -> None:
    beta = claude.beta.messages.create(model="echo", max_tokens=9, messages=asked("Hi"), betas=["a-2025-06-27"])
    assert beta.content[0].type == "text"

    async def ask() -> Any:
        async with (
            anthropic.AsyncAnthropic(base_url=server.origin, auth_token="none", api_key=None) as client,
            client.messages.stream(model="echo", max_tokens=9, messages=asked("Hi")) as stream,
        ):
            return await stream.get_final_message()

    assert said(asyncio.run(ask())) == said(beta)


def test_the_stop_sequence_that_was_met_is_told(claude: anthropic.Anthropic) -> None:
    fields: Any = {"model": "echo", "max_tokens": 50, "messages": asked("one two three"), "stop_sequences": ["END", "thr"]}
    for message in (claude.messages.create(**fields), streamed(claude, **fields)):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "thr")
        assert message.content[0].text == "one two "


def test_tokens_end_where_the_client_says_or_the_context_does(claude: anthropic.Anthropic, model: str) -> None:
    assert claude.messages.create(model="echo", max_tokens=2, messages=asked("a b c")).stop_reason == "max_tokens"
    nothing = claude.messages.create(model=model, max_tokens=0, messages=asked("a b c"))
    assert (nothing.content, nothing.stop_reason) == ([], "max_tokens")
    wide = streamed(claude, model=model, max_tokens=32_000, messages=asked("Say hi."), extra_body={"temperature": 0})
    assert (wide.content[0].type, wide.stop_reason) == ("text", "end_turn")


def test_an_answer_is_held_to_a_schema(claude: anthropic.Anthropic, model: str) -> None:
    schema = {"type": "object", "properties": {"city": CITY}, "required": ["city"], "additionalProperties": False}
    message = claude.messages.create(
        model=model,
        max_tokens=60,
        messages=asked("Name a city, as JSON."),
        output_config={"format": {"type": "json_schema", "schema": schema}},
        extra_body={"temperature": 0},
    )
    assert message.content[0].type == "text"
    assert set(json.loads(message.content[0].text)) == {"city"}


# ---------------------------------------------------------------- tools, thoughts, pictures


def test_calls_arrive_whole_and_streamed(claude: anthropic.Anthropic) -> None:
    fields: Any = {"model": "echo", "max_tokens": 500, "messages": asked(CALLS), "tools": [WEATHER, NOW]}
    whole, final = claude.messages.create(**fields), streamed(claude, **fields)
    for message in (whole, final):
        text, first, second = message.content
        assert text.text == "Let me see. "
        assert (first.name, first.input, second.name, second.input) == ("get_weather", PARIS, "now", {})
        assert message.stop_reason == "tool_use"
        assert first.id != second.id


def test_a_whole_round_of_calls_and_results(claude: anthropic.Anthropic) -> None:
    messages = asked(f"[[then=It is sunny.]]{CALLS}")
    fields: Any = {"model": "echo", "max_tokens": 500, "tools": [WEATHER, NOW]}
    first = claude.messages.create(**fields, messages=messages)
    messages.append({"role": "assistant", "content": first.content})
    calls = [block for block in first.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    second = claude.messages.create(**fields, messages=[*messages, {"role": "user", "content": results}])
    assert (second.content[0].text, second.stop_reason) == ("It is sunny.", "end_turn")  # type: ignore[union-attr]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_model_that_was_made_for_no_tools_makes_forced_calls(claude: anthropic.Anthropic, model: str, choice: Any) -> None:
    fields: Any = {
        "model": model,
        "max_tokens": 80,
        "messages": asked("What is the weather in Paris, in celsius?"),
        "tools": [WEATHER],
        "tool_choice": choice,
        "extra_body": {"temperature": 0},
    }
    whole, final = claude.messages.create(**fields), streamed(claude, **fields)
    assert said(whole) == said(final)
    [call] = whole.content
    assert call.type == "tool_use"
    assert (call.name, set(call.input), whole.stop_reason) == ("get_weather", {"city", "unit"}, "tool_use")


def test_thoughts_are_blocks_with_a_signature_and_go_back_as_they_came(claude: anthropic.Anthropic) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    fields: Any = {"model": "echo", "max_tokens": 2000, "messages": asked(THINKS)}
    whole = claude.messages.create(**fields, thinking=thinking)
    final = streamed(claude, **fields, thinking=thinking)
    assert said(whole) == said(final)
    thought, text = whole.content
    assert (thought.type, text.type) == ("thinking", "text")
    assert (thought.thinking, text.text) == ("Well, Paris.", "Paris.")  # type: ignore[union-attr]
    assert thought.signature  # type: ignore[union-attr]
    assert whole.usage.output_tokens_details is not None
    assert whole.usage.output_tokens_details.thinking_tokens == 4
    again = [*asked(THINKS), {"role": "assistant", "content": whole.content}, *asked("And now?")]
    assert claude.messages.create(**{**fields, "messages": again}).content[0].text == "And now?"  # type: ignore[union-attr]


def test_thoughts_that_nobody_asked_for_are_not_sent(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="echo", max_tokens=2000, messages=asked(THINKS))
    assert said(message) == [{"type": "text", "text": "Paris."}]


def test_a_model_sees_pictures_also_those_that_a_tool_gave(claude: anthropic.Anthropic) -> None:
    picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    fields: Any = {"model": "echo", "max_tokens": 100}
    seen = claude.messages.create(**fields, messages=asked([{"type": "text", "text": "see"}, picture]))
    assert "picture" in seen.content[0].text  # type: ignore[union-attr]
    call: Any = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
    result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [picture]}
    messages = [*asked("look"), {"role": "assistant", "content": [call]}, *asked([result, {"type": "text", "text": "see"}])]
    assert "picture" in claude.messages.create(**fields, messages=messages, tools=[NOW]).content[0].text  # type: ignore[union-attr]


# ---------------------------------------------------------------- counts


def test_what_is_counted_is_what_is_used(claude: anthropic.Anthropic, model: str) -> None:
    fields: Any = {"model": model, "messages": asked("Count these words."), "system": "Be brief.", "tools": [WEATHER]}
    counted = claude.messages.count_tokens(**fields).input_tokens
    usage = claude.messages.create(**fields, max_tokens=1).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert counted > claude.messages.count_tokens(model=model, messages=asked("Count these words.")).input_tokens


def test_the_beginning_of_a_conversation_is_found_again_turn_by_turn(claude: anthropic.Anthropic, model: str) -> None:
    """The billing line is another one each time, and the mark for the cache wanders, as with Claude Code."""
    messages: list[Any] = []
    found: list[int] = []
    for turn in range(4):
        messages.append({"role": "user", "content": f"Tell me something about the number {turn}, and then about the sea."})
        marked = [*messages[:-1], *asked([{"type": "text", "text": messages[-1]["content"], **MARK}])]
        system: Any = [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1; cch={turn}{turn};"},
            {"type": "text", "text": "You are a patient teacher of everything. " * 8, **MARK},
        ]
        answer = claude.messages.create(
            model=model, max_tokens=24, system=system, messages=marked, extra_body={"temperature": 0}
        )
        found.append(answer.usage.cache_read_input_tokens or 0)
        messages.append({"role": "assistant", "content": answer.content})
    assert found[1] > 60
    assert found[1] < found[2] < found[3]


def test_models_are_listed_page_by_page_and_described(claude: anthropic.Anthropic, model: str) -> None:
    listed = list(claude.models.list(limit=1))
    assert [each.id for each in listed[:2]] == [model, "echo"]
    assert len({each.id for each in listed}) == len(listed) > 2
    one = claude.models.retrieve(model)
    assert (one.type, one.id, one.display_name, one.max_input_tokens) == ("model", model, model, 8192)
    assert one.created_at.year >= 2020
    assert claude.models.list(before_id="echo").data == [listed[0]]
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.models.retrieve("nowhere")
    assert caught.value.type == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="after_id"):
        claude.models.list(after_id="nowhere")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"model": "nowhere"}, anthropic.NotFoundError, "nowhere"),
        ({"max_tokens": -1}, anthropic.BadRequestError, "max_tokens"),
        ({"messages": []}, anthropic.BadRequestError, "messages"),
        ({"messages": asked([{"type": "x"}])}, anthropic.BadRequestError, "messages[0]"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, anthropic.BadRequestError, "tools[0].name"),
        ({"extra_body": {"temperature": "hot"}}, anthropic.BadRequestError, "temperature"),
        ({"messages": asked("a " * 9000)}, anthropic.BadRequestError, "prompt is too long"),
        ({"messages": asked("x" * (33 << 20))}, anthropic.ContentTooLargeError, "32.0 MiB"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_each_refusal_is_the_sdk_s_own_error(
    claude: anthropic.Anthropic, model: str, fields: Any, error: type[anthropic.APIStatusError], words: str, stream: bool
) -> None:
    with pytest.raises(error) as caught:
        claude.messages.create(**{"model": model, "max_tokens": 10, "messages": asked("Hi"), "stream": stream, **fields})
    assert caught.value.type == KINDS[error]
    assert words in str(caught.value.api_message)
    assert str(caught.value.request_id).startswith("req_")
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["request_id"] == caught.value.request_id


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/v1/messages", b"", 405, "invalid_request_error"),
        ("POST", "/v1/messages/nothing", b"{}", 404, "not_found_error"),
        ("POST", "/v1/messages", b"{", 400, "invalid_request_error"),
        ("POST", "/v1/messages", b"[" * 100_000, 400, "invalid_request_error"),
        ("POST", "/v1/messages", b"\xff", 400, "invalid_request_error"),
        ("POST", "/v1/messages/count_tokens", ELSEWHERE, 404, "not_found_error"),
        ("POST", "/v1/messages/count_tokens", b"{}", 400, "invalid_request_error"),
    ],
)  # fmt: skip
def test_what_no_sdk_sends_is_refused_in_the_same_shape(
    http: httpx2.Client, method: str, path: str, body: bytes, status: int, kind: str
) -> None:
    answer = http.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", kind)
    assert answer.json()["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("depth", [900, 940, 960, 970, 975, 980, 985, 990, 995, 1000])
def test_json_that_can_just_be_read_breaks_nothing(http: httpx2.Client, depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    call = f'{{"type": "tool_use", "id": "t", "name": "n", "input": {deep}}}'
    ends = (
        f'{{"role": "user", "content": "Hi"}}], "tools": [{{"name": "n", "input_schema": {deep}}}]}}',
        f'{{"role": "assistant", "content": [{call}]}}, {{"role": "user", "content": "Hi"}}]}}',
    )
    for end in ends:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            answer = http.post(path, content=f'{{"model": "echo", "max_tokens": 5, "messages": [{end}'.encode())
            assert answer.status_code in (200, 400), answer.text
    assert "nested" in answer.text or depth < 1000


@pytest.fixture(scope="module")
def guarded(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str, str]]:
    """A server, and two keys: one may ask twice a minute, the other may not chat."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "nothing").mkdir()
    config = folder / "config.toml"
    config.write_text(
        f'[storage]\ndir = "{folder / "kept"}"\n[workers]\nfork_server = false\n'
        f'[models.echo]\nsource = "{folder / "nothing"}"\nkind = "echo"\n'
    )
    orders = CreateKey(limits=Limits(requests_per_minute=2)), CreateKey(scopes=("models",))
    chats, models = asyncio.run(made(folder / "kept" / DATABASE, *orders))
    running = serve(config, folder)
    yield running, chats, models
    assert running.stop() == 0, running.log.read_text()


async def made(path: Path, *orders: CreateKey) -> list[str]:
    file = KeyFile(path)
    try:
        return [(await KeyKeeper(file).create(order)).secret for order in orders]
    finally:
        await file.close()


def refused(running: Any, **key: Any) -> anthropic.APIStatusError:
    """How this client's third request ends, or one before it."""
    with anthropic.Anthropic(base_url=running.origin, max_retries=0, **key) as client:
        for _ in range(3):
            try:
                client.messages.create(model="echo", max_tokens=5, messages=asked("Hi"))
            except anthropic.APIStatusError as error:
                return error
    raise AssertionError("nothing was refused")


def test_keys_are_asked_for_in_both_headers_and_refused_in_anthropic_s_shape(guarded: tuple[Any, str, str]) -> None:
    running, chats, models = guarded
    wrong = refused(running, api_key="sk-wrong")
    assert (type(wrong), wrong.type) == (anthropic.AuthenticationError, "authentication_error")
    assert type(refused(running, api_key=None, auth_token="sk-wrong")) is anthropic.AuthenticationError
    poor = refused(running, api_key=models)
    assert (type(poor), poor.type) == (anthropic.PermissionDeniedError, "permission_error")
    over = refused(running, api_key=chats)
    assert (type(over), over.type) == (anthropic.RateLimitError, "rate_limit_error")
    assert int(over.response.headers["retry-after"]) > 0


# ---------------------------------------------------------------- clients that leave


def active(http: httpx2.Client) -> int:
    found = re.search(r'^openai_compat_model_active\{model="echo"\} (\d+)', http.get("/metrics").text, re.MULTILINE)
    return int(found[1]) if found else 0


def until(http: httpx2.Client, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while active(http) != number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_work(http: httpx2.Client, claude: anthropic.Anthropic, stream: bool) -> None:
    fields: Any = {"model": "echo", "max_tokens": 5000, "messages": asked("[[tokens=5000]] [[delay=0.05]] go on")}
    until(http, 0)
    if stream:
        with claude.messages.stream(**fields) as events:
            for _, event in zip(range(8), events, strict=False):
                assert event.type
            assert active(http) == 1
    else:
        with pytest.raises(anthropic.APITimeoutError):
            claude.with_options(timeout=0.7).messages.create(**fields)
    until(http, 0)


def test_the_recorded_requests_of_claude_code_are_answered(claude: anthropic.Anthropic, http: httpx2.Client) -> None:
    folder = Path(__file__).parent / "agents"
    for kept in (json.loads(path.read_text()) for path in sorted(folder.glob("claude_code_*.json"))):
        for messages in kept["messages"]:
            body = {**kept["body"], "model": "echo", "messages": messages}
            answer = http.post(kept["path"], json=body, headers={**kept["headers"], "accept-encoding": "identity"})
            assert answer.status_code == 200, answer.text
            assert answer.text.startswith("event: message_start\n")
            assert answer.text.rstrip().endswith('data: {"type":"message_stop"}')
