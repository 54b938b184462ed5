"""Anthropic's API by an upstream that only knows OpenAI's chats: what it is sent, and what becomes of its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import pytest

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects
HELLO: Any = [{"role": "user", "content": "Hello"}]
LOOK: Any = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
USAGE = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34, "prompt_tokens_details": {"cached_tokens": 20}}
TOO_LONG = (
    "This model's maximum context length is 1000 tokens. However, you requested 5400 tokens (400 in the messages, 5000 in the "
    "completion). Please reduce the length of the messages or completion."
)
Answer = Callable[["Provider", BaseHTTPRequestHandler, dict[str, Any]], None]


class Provider:
    """Answers each request by the next of ``acts``, the last one again and again; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.acts: list[Answer] = []
        self.left = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.asked.append(body)
                act = provider.acts.pop(0) if len(provider.acts) > 1 else provider.acts[0]
                act(provider, self, body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Provider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def refusal(status: int, message: str = "No.", **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}).encode()
    return lambda provider, handler, asked: send(handler, status, body, **headers)


def whole(message: dict[str, Any], finish: str = "stop", **choice: Any) -> Answer:
    said = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [said], "usage": USAGE}
    return lambda provider, handler, asked: send(handler, 200, json.dumps(body).encode())


def event(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def stream(*events: bytes) -> Answer:
    return lambda provider, handler, asked: send(handler, 200, b"".join(events), "text/event-stream")


def endless(provider: Provider, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    """Speaks, or thinks before it answers, until nobody is there any more."""
    if asked.get("stream"):
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
    handler.connection.settimeout(0.02)
    for _ in range(int(PATIENCE / 0.02)):
        try:
            if asked.get("stream"):
                handler.wfile.write(event({"content": "on "}))
            if handler.connection.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    else:
        return
    provider.left.set()
    handler.close_connection = True


@pytest.fixture(scope="module")
def place(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Provider, Any]]:
    folder = tmp_path_factory.mktemp("upstream")
    with Provider() as provider:
        config = folder / "config.toml"
        config.write_text(
            "[metering]\nrequests_per_minute = 1000\n"
            f'[workers]\nfork_server = false\n[upstreams.far]\nbase_url = "{provider.base_url}"\n'
            'retries = 0\nbreaker = { failures = 1000 }\nmodels = { far = { name = "m" } }\n'
        )
        running = serve(config, folder)
        yield provider, running
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def provider(place: tuple[Provider, Any]) -> Provider:
    place[0].asked.clear()
    place[0].left.clear()
    return place[0]


@pytest.fixture
def claude(place: tuple[Provider, Any]) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=place[1].origin, api_key="none", max_retries=0) as client:
        yield client


def ask(client: anthropic.Anthropic, **fields: Any) -> Any:
    return client.messages.create(**{"model": "far", "max_tokens": 100, "messages": HELLO, **fields})


def final(client: anthropic.Anthropic, **fields: Any) -> Any:
    with client.messages.stream(**{"model": "far", "max_tokens": 100, "messages": HELLO, **fields}) as events:
        return events.get_final_message()


def test_an_upstream_is_asked_for_a_plain_chat(provider: Provider, claude: anthropic.Anthropic) -> None:
    provider.acts = [whole({"content": "Hi."})]
    message = ask(claude, system="Be kind.", stop_sequences=["END"], metadata={"user_id": "u"}, tools=[LOOK])
    assert provider.asked == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
            "tools": [
                {"type": "function", "function": {"name": "look", "description": "", "parameters": LOOK["input_schema"]}}
            ],
            "max_completion_tokens": 100,
            "stop": ["END"],
            "stream": False,
        }
    ]
    assert (message.content[0].text, message.model, message.stop_reason) == ("Hi.", "far", "end_turn")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (10, 20, 4)


def test_a_stream_of_chunks_is_a_stream_of_events(provider: Provider, claude: anthropic.Anthropic) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    provider.acts = [
        stream(
            event({"role": "assistant", "content": ""}),
            event({"content": "Let "}),
            event({"content": "me."}),
            event({"tool_calls": [call]}),
            event({"tool_calls": [{"index": 0, "function": {"arguments": '{"at": '}}]}),
            event({"tool_calls": [{"index": 0, "function": {"arguments": '"sea"}'}}]}),
            event({}, "tool_calls"),
            event(None, usage=USAGE),
            b"data: [DONE]\n\n",
        )
    ]
    message = final(claude, tools=[LOOK])
    text, use = message.content
    assert (text.text, use.id, use.name, use.input) == ("Let me.", "call_1", "look", {"at": "sea"})
    assert (message.stop_reason, message.usage.input_tokens, message.usage.cache_read_input_tokens) == ("tool_use", 10, 20)
    assert provider.asked[0]["stream_options"] == {"include_usage": True}


def test_a_server_that_tells_which_stop_string_it_met_is_believed(provider: Provider, claude: anthropic.Anthropic) -> None:
    provider.acts = [whole({"content": "Hi "}, stop_reason="END")]
    message = ask(claude, stop_sequences=["END"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


@pytest.mark.parametrize("streams", [False, True])
def test_what_a_server_does_not_know_about_thinking_is_left_out(
    provider: Provider, claude: anthropic.Anthropic, streams: bool
) -> None:
    unknown = refusal(400, "Unrecognized request argument supplied: chat_template_kwargs")
    said = stream(event({"content": "Hi."}), event({}, "stop"), b"data: [DONE]\n\n") if streams else whole({"content": "Hi."})
    provider.acts = [unknown, said]
    message = (final if streams else ask)(claude, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    assert message.content[0].text == "Hi."
    assert ["chat_template_kwargs" in asked for asked in provider.asked] == [True, False]


def test_an_answer_has_the_room_that_the_context_leaves(provider: Provider, claude: anthropic.Anthropic) -> None:
    provider.acts = [refusal(400, TOO_LONG), whole({"content": "Long."}, "length")]
    message = ask(claude, max_tokens=5000)
    assert message.stop_reason == "model_context_window_exceeded"
    assert [asked["max_completion_tokens"] for asked in provider.asked] == [5000, 600]


def test_a_request_that_is_put_in_other_words_counts_once(provider: Provider, claude: anthropic.Anthropic) -> None:
    def left(**fields: Any) -> int:
        answer = claude.messages.with_raw_response.create(**{"model": "far", "max_tokens": 5000, "messages": HELLO, **fields})
        return int(answer.headers["x-ratelimit-remaining-requests"])

    provider.acts = [whole({"content": "Hi."})]
    before = left()
    provider.acts = [refusal(400, TOO_LONG), whole({"content": "Long."}, "length")]
    assert left() == before - 1
    said = stream(event({"content": "Long."}), event({}, "length"), b"data: [DONE]\n\n")
    provider.acts = [refusal(400, TOO_LONG), said]
    assert left(stream=True) == before - 2
    assert len(provider.asked) == 5


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (503, anthropic.OverloadedError),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_an_upstream_s_refusal_has_anthropic_s_shape(
    provider: Provider, claude: anthropic.Anthropic, status: int, error: type[anthropic.APIStatusError], streams: bool
) -> None:
    provider.acts = [refusal(status, **{"retry-after": "1"})]
    with pytest.raises(error) as caught:
        ask(claude, stream=streams)
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"type", "error", "request_id"}
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "1"


def test_a_stream_that_breaks_is_an_error_event(provider: Provider, claude: anthropic.Anthropic) -> None:
    failed = b'data: {"error": {"message": "Out of memory.", "type": "server_error", "param": null, "code": null}}\n\n'
    provider.acts = [stream(event({"content": "Hel"}), failed)]
    seen: list[str] = []
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        claude.messages.stream(model="far", max_tokens=100, messages=HELLO) as events,
    ):
        seen.extend(events.text_stream)
    assert seen == ["Hel"]
    assert caught.value.type == "api_error"


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_leaves_ends_the_upstream_s_work(provider: Provider, claude: anthropic.Anthropic, streams: bool) -> None:
    provider.acts = [endless]
    if streams:
        with claude.messages.stream(model="far", max_tokens=100, messages=HELLO) as events:
            assert next(iter(events.text_stream)) == "on "
    else:
        with pytest.raises(anthropic.APITimeoutError):
            ask(claude.with_options(timeout=0.5))
    assert provider.left.wait(PATIENCE)


def test_tokens_are_estimated_where_an_upstream_counts_them(provider: Provider, claude: anthropic.Anthropic) -> None:
    counted = claude.messages.count_tokens(model="far", messages=HELLO).input_tokens
    assert 5 < counted < 50
    assert provider.asked == []
