"""Every way in which an upstream can be broken, and what the clients of the installed server see of it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

KEY = "sk-key-of-the-upstream-0123456789"
SAID: Any = [{"role": "user", "content": "one two three"}]
RESET, HANG = "reset", "hang"
LONG = 30.0
TELLING = (KEY, "sk-", "127.0.0.1", "/hidden/place", "Traceback", "aiohttp", "nginx", "10.9.8.7")
CONFIG = """
[server]
first_byte_timeout = 0.5
ping_interval = 0.2
inline = true

[models.echo]
source = "@NOTHING@"
kind = "echo"

[upstreams.broken]
base_url = "http://127.0.0.1:@PORT@/hidden/place/v1"
api_key_env = "BROKEN_KEY"
retries = 0
first_byte_timeout = 1.5
idle_timeout = 0.5
breaker = { failures = 1000000 }
models = { "*" = { name = "*" } }

[routes.rescued]
targets = ["half-head", "echo"]
"""


def head(kind: str = "text/event-stream", status: str = "200 OK", *more: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-type: {kind}", "connection: close", *more, "", ""]).encode()


def reply(status: str, body: bytes, kind: str = "application/json", *more: str) -> bytes:
    return head(kind, status, f"content-length: {len(body)}", *more) + body


def event(text: str | None = "Hi ", finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return data({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more})


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


SSE, JSON, CHUNKED = head(), head("application/json"), head().replace(b"connection: close", b"transfer-encoding: chunked")
HI, STOP, DONE = event(), event(None, "stop"), b"data: [DONE]\n\n"
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop", "logprobs": None}
WHOLE = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
PAGE = b"<html><body>502 nginx at 10.9.8.7</body></html>"
TRACE = (
    b'{"error":{"message":"boom at http://10.9.8.7/x with ' + KEY.encode() + b'\\nTraceback (most recent call last):\\n x"}}'
)


def drops(piece: bytes, count: int = 60) -> list[Any]:
    """One byte after the other, for longer than anybody should wait."""
    return [step for byte in (piece * count)[:count] for step in (bytes([byte]), 0.1)]


# What an upstream does, the status that clients of a whole answer and of a stream see, and the code that both read.
BEFORE: dict[str, tuple[list[Any], int, str]] = {
    "closed": ([], 502, "upstream_error"),
    "reset": ([RESET], 502, "upstream_error"),
    "half-head": ([b"HTTP/1.1 200 OK\r\nx-a:"], 502, "upstream_error"),
    "no-http": ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], 502, "upstream_error"),
    "html": ([reply("200 OK", PAGE, "text/html")], 502, "upstream_error"),
    "text": ([reply("200 OK", b"OK", "text/plain")], 502, "upstream_error"),
    "empty": ([reply("200 OK", b"")], 502, "upstream_error"),
    "no-content": ([b"HTTP/1.1 204 No Content\r\n\r\n"], 502, "upstream_error"),
    "redirect": ([reply("302 Found", b"", "text/html", "location: http://10.9.8.7/")], 502, "upstream_error"),
    "half-json": ([JSON, json.dumps(WHOLE)[:40].encode()], 502, "upstream_error"),
    "length-lies": ([head("application/json", "200 OK", "content-length: 999"), b'{"choices"'], 502, "upstream_error"),
    "no-gzip": ([reply("200 OK", b"{}", "application/json", "content-encoding: gzip")], 502, "upstream_error"),
    "null-choices": ([reply("200 OK", b'{"choices":null}')], 502, "upstream_error"),
    "error-at-200": ([reply("200 OK", TRACE)], 502, "upstream_error"),
    "status-401": ([reply("401 Unauthorized", TRACE)], 502, "upstream_error"),
    "status-403": ([reply("403 Forbidden", TRACE)], 502, "upstream_error"),
    "status-404": ([reply("404 Not Found", b'{"detail":"Not Found"}')], 502, "upstream_error"),
    "status-408": ([reply("408 Request Timeout", PAGE, "text/html")], 504, "upstream_timeout"),
    "status-429": ([reply("429 Too Many", TRACE, "application/json", "retry-after: 7")], 429, "rate_limit_exceeded"),
    "status-500": ([reply("500 Oh", TRACE)], 502, "upstream_error"),
    "status-502": ([reply("502 Bad Gateway", PAGE, "text/html")], 502, "upstream_error"),
    "status-503": ([reply("503 Busy", b"busy", "text/plain")], 503, "unavailable"),
    "status-529": ([reply("529 Overloaded", b'{"error":"busy"}')], 503, "unavailable"),
}  # fmt: skip

WHOLE_ONLY: dict[str, tuple[list[Any], int, str]] = {
    "silence": ([HANG], 504, "upstream_timeout"),
    "events": ([SSE, HI, STOP, DONE], 502, "upstream_error"),
    "slow-body": ([JSON, *drops(b'{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')], 504, "upstream_timeout"),
    "body-stops": ([JSON, b'{"id":', HANG], 504, "upstream_timeout"),
    "no-choice": ([reply("200 OK", b'{"choices":[]}')], 502, "upstream_error"),
    "no-utf-8": ([reply("200 OK", json.dumps(WHOLE).encode().replace(b"Hi", b"\xff"))], 502, "upstream_error"),
}

STREAM_ONLY: dict[str, tuple[list[Any], int, str]] = {
    "whole": ([reply("200 OK", json.dumps(WHOLE).encode())], 502, "upstream_error"),
    "no-event": ([SSE], 502, "upstream_error"),
    "only-done": ([SSE, DONE], 502, "upstream_error"),
    "garbage": ([SSE, b"Internal Server Error\n\n"], 502, "upstream_error"),
    "garbage-json": ([SSE, b"data: {oops}\n\n"], 502, "upstream_error"),
    "null-event": ([SSE, data({"choices": None})], 502, "upstream_error"),
    "error-event": ([SSE, b"data: " + TRACE + b"\n\n"], 502, "upstream_error"),
    "limit-event": ([SSE, data({"error": {"message": "m", "code": 429}})], 429, "rate_limit_exceeded"),
    "bad-chunks": ([CHUNKED + b"zz\r\n", 0.2], 502, "upstream_error"),
}

# What an upstream does after one event, and the code of the error event that follows it.
AFTER: dict[str, tuple[list[Any], str]] = {
    "late-reset": ([CHUNKED, chunk(HI), 0.2, RESET], "upstream_error"),
    "late-close": ([SSE, HI], "upstream_error"),
    "late-half": ([SSE, HI, HI[:25]], "upstream_error"),
    "late-silence": ([SSE, HI, HANG], "upstream_timeout"),
    "late-drops": ([SSE, HI, *drops(HI)], "upstream_timeout"),
    "late-comments": ([SSE, HI, *[step for _ in range(100) for step in (b": x\n\n", 0.1)]], "upstream_timeout"),
    "late-garbage": ([SSE, HI, b"oh no\n\n", HANG], "upstream_error"),
    "late-json": ([SSE, HI, b'data: {"choices":[\n\n', HANG], "upstream_error"),
    "late-null": ([SSE, HI, data({"choices": None}), HANG], "upstream_error"),
    "late-error": ([SSE, HI, b"data: " + TRACE + b"\n\n", HANG], "upstream_error"),
    "late-flat-error": ([SSE, HI, b'data: {"object":"error","message":"m","code":503}\n\n', HANG], "unavailable"),
    "late-named-error": ([SSE, HI, b'event: error\ndata: {"message":"boom"}\n\n', HANG], "upstream_error"),
    "late-bytes": ([SSE, HI, HI.replace(b"Hi", b"\xc3\x28"), HANG], "upstream_error"),
    "late-chunks": ([CHUNKED, chunk(HI), 0.2, b"zz\r\n", HANG], "upstream_error"),
    "late-length": ([head("text/event-stream", "200 OK", "content-length: 9999"), HI], "upstream_error"),
}

# Odd, but whole.
SOUND: dict[str, list[Any]] = {
    "no-done": [SSE, HI, STOP],
    "done-without-end": [SSE, HI, STOP, b"data: [DONE]"],
    "goes-on": [SSE, HI, STOP, DONE, HI, HANG],
    "returns": [SSE, (HI + STOP + DONE).replace(b"\n", b"\r\n")],
    "old-returns": [SSE, (HI + STOP + DONE).replace(b"\n", b"\r")],
    "mark": [SSE, b"\xef\xbb\xbf" + HI + STOP + DONE],
    "in-pieces": [SSE, *[step for start in range(0, len(HI), 9) for step in (HI[start : start + 9], 0.002)], STOP, DONE],
    "no-space": [SSE, (HI + STOP + DONE).replace(b"data: ", b"data:")],
    "usage": [SSE, HI, STOP, data({"id": "c", "choices": None, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}), DONE],
    "slow-start": [SSE, 0.8, HI, STOP, DONE],
    "slow-head": [0.8, SSE, HI, STOP, DONE],
}
PLAYS = {name: play[0] for table in (BEFORE, WHOLE_ONLY, STREAM_ONLY, AFTER) for name, play in table.items()} | SOUND
PLAYS["no-start"] = [SSE, HANG]
PLAYS["large"] = [SSE, event("x" * 10_000_000), STOP, DONE]
PLAYS["refused"] = [reply("422 No", b'{"detail":[{"loc":["body","top_k"],"msg":"must be positive"}]}')]
PLAYS["flood"] = [SSE, *[event("x" * 60_000)] * 4000]


class Stage(threading.Thread):
    """An upstream that does what the name of the model says, byte for byte."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.port = 0
        self.sent = 0
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self.join()

    async def _serve(self) -> None:
        plays: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            plays.add(asyncio.ensure_future(self._play(reader, writer)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self._end.wait()
        server.close()
        for play in plays:
            play.cancel()
        await asyncio.gather(*plays, return_exceptions=True)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", asked.lower())
            body = await reader.readexactly(int(length[1]) if length else 0)
            for step in PLAYS[json.loads(body)["model"]]:
                await self._do(step, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _do(self, step: Any, writer: asyncio.StreamWriter) -> None:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            self.sent += len(step)
        elif step == RESET:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            await asyncio.sleep(LONG if step == HANG else step)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.start()
    stage.ready.wait()
    yield stage
    stage.stop()


@pytest.fixture(scope="module")
def relay(stage: Stage, server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The installed server in front of it. What it logs tells no more than what it answers."""
    folder: Path = tmp_path_factory.mktemp("broken")
    (folder / "nothing").mkdir()
    config = CONFIG.replace("@NOTHING@", str(folder / "nothing")).replace("@PORT@", str(stage.port))
    (folder / "config.toml").write_text(config)
    relay = type(server)(folder / "config.toml", folder, env={"BROKEN_KEY": KEY})
    yield relay
    assert relay.stop() == 0
    log = relay.log.read_text()
    assert not any(word in log for word in (KEY, "/hidden/place", f":{stage.port}", "Traceback")), log


@pytest.fixture(scope="module")
def client(relay: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=relay.base_url, api_key="none", max_retries=0, timeout=LONG) as client:
        yield client


def seen(relay: Any, model: str, *, stream: bool) -> httpx2.Response:
    """What a client reads on the wire."""
    began = time.monotonic()
    asked = {"model": model, "messages": SAID, "stream": stream}
    answer = httpx2.post(f"{relay.base_url}/chat/completions", json=asked, timeout=LONG)
    assert time.monotonic() - began < LONG / 2
    assert not any(word in answer.text + str(answer.headers) for word in TELLING), answer.text
    return answer


@pytest.fixture(scope="module")
def outcomes(relay: Any) -> dict[tuple[str, bool], httpx2.Response]:
    """Every answer of the tables, by its name and whether a stream was asked for. Most of it is waiting, hence all at once."""
    asked = [(name, False) for name in (*BEFORE, *WHOLE_ONLY)]
    asked += [(name, True) for name in (*BEFORE, *STREAM_ONLY, *AFTER, *SOUND, "no-start", "silence")]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(asked, pool.map(lambda ask: seen(relay, ask[0], stream=ask[1]), asked), strict=True))


def check_error(answer: httpx2.Response, status: int, code: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("name", [*BEFORE, *WHOLE_ONLY])
def test_what_is_no_whole_answer_is_an_error(name: str, outcomes: Any) -> None:
    check_error(outcomes[name, False], *(BEFORE | WHOLE_ONLY)[name][1:])


@pytest.mark.parametrize("name", [*BEFORE, *STREAM_ONLY])
def test_what_is_no_stream_is_an_error_with_its_status(name: str, outcomes: Any) -> None:
    check_error(outcomes[name, True], *(BEFORE | STREAM_ONLY)[name][1:])


@pytest.mark.parametrize("name", AFTER)
def test_a_stream_that_breaks_ends_in_an_error_event(name: str, outcomes: Any) -> None:
    answer = outcomes[name, True]
    assert answer.status_code == 200
    events = [part for part in answer.text.split("\n\n") if part and not part.startswith(":")]
    assert [json.loads(part.removeprefix("data: "))["choices"][0]["delta"] for part in events[:-1]] == [{"content": "Hi "}]
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == AFTER[name][1]
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("name", ["late-reset", "late-half", "late-silence", "late-error"])
def test_the_sdk_raises_where_a_stream_breaks(name: str, client: openai.OpenAI) -> None:
    texts: list[str | None] = []
    with pytest.raises(openai.APIError) as caught:
        texts += [
            event.choices[0].delta.content for event in client.chat.completions.create(model=name, messages=SAID, stream=True)
        ]
    assert caught.value.code == AFTER[name][1]
    assert not any(word in str(caught.value) for word in TELLING)


def test_the_sdk_raises_what_it_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model="status-429", messages=SAID)
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.chat.completions.create(model="refused", messages=SAID, stream=True)
    assert refused.value.param == "top_k"
    assert "must be positive" in refused.value.message
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="status-401", messages=SAID)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_odd_but_whole_is_a_whole_stream(name: str, outcomes: Any, client: openai.OpenAI) -> None:
    answer = outcomes[name, True]
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "usage" not in answer.text
    assert "\r" not in answer.text
    events = list(client.chat.completions.create(model=name, messages=SAID, stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == "Hi "


@pytest.mark.parametrize("name", ["slow-start", "slow-head"])
def test_a_slow_start_is_a_stream_with_pings(name: str, outcomes: Any) -> None:
    assert outcomes[name, True].text.startswith(": ping\n\n")


@pytest.mark.parametrize("name", ["no-start", "silence"])
def test_a_stream_that_never_starts_is_one_of_pings_that_ends_in_an_error(name: str, outcomes: Any) -> None:
    *pings, error = outcomes[name, True].text.removesuffix("\n\n").split("\n\n")
    assert set(pings) == {": ping"}
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "upstream_timeout"


def test_usage_that_the_client_asked_for_has_choices(client: openai.OpenAI) -> None:
    *_, last = client.chat.completions.create(model="usage", messages=SAID, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None


def test_a_large_event_arrives_whole(client: openai.OpenAI) -> None:
    events = list(client.chat.completions.create(model="large", messages=SAID, stream=True))
    assert len(events[0].choices[0].delta.content or "") == 10_000_000


def test_a_route_goes_on_where_the_first_target_is_broken(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="rescued", messages=SAID)
    assert answer.choices[0].message.content


def test_a_client_that_does_not_read_leaves_the_stream_with_the_upstream(relay: Any, stage: Stage) -> None:
    before, memory = stage.sent, psutil.Process(relay.process.pid).memory_info().rss
    with httpx2.stream(
        "POST", f"{relay.base_url}/chat/completions", json={"model": "flood", "messages": SAID, "stream": True}, timeout=LONG
    ) as answer:
        next(answer.iter_raw())
        time.sleep(1.5)
        assert stage.sent - before < 32 << 20  # of 240 MB; sockets hold some
        assert psutil.Process(relay.process.pid).memory_info().rss - memory < 32 << 20
