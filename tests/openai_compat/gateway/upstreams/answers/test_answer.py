"""What comes of every way in which an upstream can be broken."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from openai_compat.errors import error_body

PATIENCE = 30.0
RESET, HANG = "reset", "hang"
KEY = "sk-secret-key-of-the-server-0123456789"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"


def event(content: str | None = "Hi", finish: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return data({"id": "c", "object": "chat.completion.chunk", "model": "remote", "choices": choices, **more})


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def in_chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def answer(status: str, body: bytes, kind: str = "application/json", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "model": "remote",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
}
HI, STOP, DONE = event(), event(None, "stop"), b"data: [DONE]\n\n"
USAGE = data({"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})


# Before the first event nothing was sent: another target may be asked.
NEVER_BEGUN: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "reset before the head": ((RESET,), "lost", "upstream_error"),
    "closed before the head": ((), "lost", "upstream_error"),
    "garbage for a head": ((b"\x00\x01garbage\r\n\r\n",), "server_error", "upstream_error"),
    "head that never ends": ((b"HTTP/1.1 200 OK\r\nx-a: b\r\n", HANG), "timeout", "upstream_timeout"),
    "nothing at all": ((HANG,), "timeout", "upstream_timeout"),
    "head and then silence": ((SSE, HANG), "timeout", "upstream_timeout"),
    "head and then a reset": ((CHUNKED, 0.1, RESET), "lost", "upstream_error"),
    "empty 200": ((SSE,), "server_error", "upstream_error"),
    "only [DONE]": ((SSE, DONE), "server_error", "upstream_error"),
    "only comments, then the end": ((SSE, b": hello\n\n"), "server_error", "upstream_error"),
    "half an event": ((SSE, HI[:20]), "server_error", "upstream_error"),
    "an event that never ends": ((SSE, HI[:20], HANG), "timeout", "upstream_timeout"),
    "garbage": ((SSE, b"Internal Server Error\n\n"), "server_error", "upstream_error"),
    "garbage that looks like an event": ((SSE, b"data: {oops}\n\n"), "server_error", "upstream_error"),
    "bytes": ((SSE, bytes(range(14, 256)) + b"\n\n"), "server_error", "upstream_error"),
    "html as events": ((SSE, b"<html><body>\n\n</body>"), "server_error", "upstream_error"),
    "html": ((answer("200 OK", b"<html>login</html>", "text/html"),), "server_error", "upstream_error"),
    "plain text": ((answer("200 OK", b"ok", "text/plain"),), "server_error", "upstream_error"),
    "a whole answer for a stream": ((answer("200 OK", json.dumps(WHOLE).encode()),), "server_error", "upstream_error"),
    "no content": ((b"HTTP/1.1 204 No Content\r\n\r\n",), "server_error", "upstream_error"),
    "null for choices": ((SSE, data({"id": "c", "choices": None})), "server_error", "upstream_error"),
    "no choices": ((SSE, data({"id": "c", "object": "what"})), "server_error", "upstream_error"),
    "choices that are none": ((SSE, data({"choices": "many"})), "server_error", "upstream_error"),
    "a list for an event": ((SSE, data([1])), "server_error", "upstream_error"),
    "no UTF-8": ((SSE, HI.replace(b"Hi", b"H\xff")), "server_error", "upstream_error"),
    "an error of 429": ((SSE, data({"error": {"message": "slow down", "code": 429}})), "rate_limited", "rate_limit_exceeded"),
    "an error of 503": ((SSE, data({"error": {"message": "busy", "code": 503}})), "server_error", "unavailable"),
    "an error of 401": ((SSE, data({"error": {"message": f"bad key {KEY}", "code": 401}})), "refused", "upstream_error"),
    "an error without a number": ((SSE, data({"error": {"message": "oh"}})), "server_error", "upstream_error"),
    "an error event with a name": ((SSE, b'event: error\ndata: {"message":"oh"}\n\n'), "server_error", "upstream_error"),
    "a flat error": ((SSE, data({"object": "error", "message": "m", "code": 500})), "server_error", "upstream_error"),
    "a detail": ((SSE, data({"detail": "Internal"})), "server_error", "upstream_error"),
    "an error as text": ((SSE, data({"error": "oh"})), "server_error", "upstream_error"),
    "too long": (
        (SSE, data({"error": {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}})),
        "context",
        "context_length_exceeded",
    ),
    "an error at 200": ((answer("200 OK", b'{"error":{"message":"oh"}}'),), "server_error", "upstream_error"),
    "a wrong length, too long": (
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n" + HI[:9],),
        "lost",
        "upstream_error",
    ),
    "broken chunks": (
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",),
        "server_error",
        "upstream_error",
    ),
    "gzip that is none": (
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n" + HI,),
        "lost",
        "upstream_error",
    ),
}


@pytest.mark.parametrize("name", NEVER_BEGUN)
def test_a_stream_that_never_began_is_a_failure_before_the_first_byte(name: str, perform: Any) -> None:
    steps, cause, code = NEVER_BEGUN[name]
    seen = perform(*steps, first_byte_timeout=0.4, idle_timeout=0.4)
    assert seen.failure is not None, seen.body
    assert (seen.failure.cause, error_body(seen.failure.error)["error"]["code"]) == (cause, code)
    assert seen.body == b""
    assert not any(word in seen.said for word in (KEY, "127.0.0.1", "/secret", "aiohttp", "Traceback"))


@pytest.mark.parametrize(("name", "warned"), [("too long", False), ("an error of 503", True)])
def test_a_prompt_that_is_too_long_is_nothing_to_warn_of(
    name: str, warned: bool, perform: Any, caplog: pytest.LogCaptureFixture
) -> None:
    perform(*NEVER_BEGUN[name][0])
    assert any(record.levelname == "WARNING" for record in caplog.records) is warned


# After it the client is told by an error event, which is what an APIError of ``chunks`` becomes.
BROKEN_OFF: dict[str, tuple[tuple[Any, ...], bytes, str]] = {
    "reset": ((CHUNKED, in_chunk(HI), 0.1, RESET), HI, "broke off"),
    "reset where nothing tells the end": ((SSE, HI, 0.1, RESET), HI, "ended its answer early"),
    "closed in an event": ((SSE, HI, HI[:30]), HI, "ended its answer early"),
    "closed between events": ((SSE, HI, HI), HI + HI, "ended its answer early"),
    "silence": ((SSE, HI, HANG), HI, "fell silent"),
    "one byte at a time": ((SSE, HI, *[step for byte in HI for step in (bytes([byte]), 0.05)]), HI, "fell silent"),
    "garbage": ((SSE, HI, b"garbage\n\n", HANG), HI, "no stream of events"),
    "broken JSON": ((SSE, HI, HI + b'data: {"choices":[{]}\n\n' + HI, HANG), HI + HI, "no stream of events"),
    "null for choices": ((SSE, HI, data({"choices": None}), HANG), HI, "without choices"),
    "an error": ((SSE, HI + data({"error": {"message": f"at 10.0.0.7: {KEY}"}}), HANG), HI, "failed (500)"),
    "an error with choices": ((SSE, HI + event("", "error", error={"code": 502, "message": "x"}), HANG), HI, "failed (502)"),
    "a client error": ((SSE, HI + data({"error": {"message": "bad tool", "code": 400}}), HANG), HI, "bad tool"),
    "no UTF-8": ((SSE, HI, HI.replace(b"Hi", b"\xc3\x28"), HANG), HI, "no stream of events"),
    "broken chunks": (
        (
            SSE.replace(b"connection: close", b"transfer-encoding: chunked"),
            b"%x\r\n%s\r\n" % (len(HI), HI),
            0.1,
            b"xx\r\n",
            HANG,
        ),
        HI,
        "broke off",
    ),
    "a length that lies": (
        (SSE.replace(b"connection: close", b"content-length: 100000"), HI),
        HI,
        "broke off",
    ),
}


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_a_stream_that_breaks_keeps_what_was_whole_and_ends_in_an_error(name: str, perform: Any) -> None:
    steps, kept, words = BROKEN_OFF[name]
    seen = perform(*steps, idle_timeout=0.5 if "silence" in name or "byte" in name else 5)
    assert (seen.status, seen.body, seen.failure) == (200, kept, None)
    assert seen.error is not None
    assert words in seen.error.message
    assert not any(word in seen.said for word in (KEY, "10.0.0.7", "127.0.0.1", "/secret"))


def test_comments_alone_do_not_keep_a_stream_alive_for_ever(perform: Any) -> None:
    comments = [step for _ in range(60) for step in (b": still here\n\n", 0.1)]
    seen = perform(SSE, HI, *comments, idle_timeout=0.3)
    assert seen.error is not None
    assert 1.4 < seen.seconds < 5
    assert seen.body.startswith(HI + b": ping\n\n")
    assert b"still here" not in seen.body


def test_a_slow_first_event_begins_the_stream_with_pings(perform: Any) -> None:
    seen = perform(SSE, 0.7, HI, STOP, DONE, hold=0.2, ping=0.2, idle_timeout=0.1)
    assert seen.error is None
    assert 2 <= seen.body.count(b": ping\n\n") <= 4
    assert seen.body.endswith(b": ping\n\n" + HI + STOP + DONE)


def test_a_late_head_begins_the_stream_with_pings_too(perform: Any) -> None:
    seen = perform(0.7, SSE, HI, STOP, DONE, hold=0.2, ping=0.2)
    assert seen.error is None
    assert 2 <= seen.body.count(b": ping\n\n") <= 4
    assert seen.body.endswith(b": ping\n\n" + HI + STOP + DONE)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ((answer("400 Bad", b'{"error":{"message":"bad tool","code":"bad"}}'),), "bad"),
        ((answer("500 Oh", b""),), "upstream_error"),
        ((answer("200 OK", json.dumps(WHOLE).encode()),), "upstream_error"),
        ((RESET,), "upstream_error"),
        ((SSE, HANG), "upstream_timeout"),
        ((HANG,), "upstream_timeout"),
    ],
)
def test_what_comes_late_and_is_no_stream_ends_it_in_an_error(reply: tuple[Any, ...], code: str, perform: Any) -> None:
    seen = perform(0.3, *reply, hold=0.1, first_byte_timeout=0.8)
    assert (seen.status, seen.failure, set(seen.chunks)) == (200, None, {b": ping\n\n"})
    assert seen.error is not None
    assert error_body(seen.error)["error"]["code"] == code


def test_a_client_that_leaves_a_late_stream_ends_the_request_there(staging: Any, asking: Any) -> None:
    async def go() -> int:
        async def leave(chunk: bytes) -> None:
            raise ConnectionResetError

        async with asyncio.timeout(PATIENCE), staging([HANG]) as stage:
            with pytest.raises(ConnectionResetError):
                await asking(stage, hold=0.1, take=leave)
            await asyncio.sleep(0.1)
            return len(asyncio.all_tasks())

    assert asyncio.run(go()) == 3  # this one, and two of the upstream's connection


def test_pings_come_between_events_and_never_within_one(perform: Any) -> None:
    seen = perform(SSE, HI, HI[:10], 0.5, HI[10:], STOP, DONE, ping=0.2)
    assert b": ping\n\n" in seen.body
    assert seen.body.replace(b": ping\n\n", b"") == HI + HI + STOP + DONE


def test_the_deadline_of_the_request_ends_a_stream_that_goes_on(perform: Any) -> None:
    seen = perform(SSE, *[step for _ in range(100) for step in (b": x\n\n", 0.1)], deadline=0.5)
    assert seen.failure is not None
    assert (seen.failure.cause, error_body(seen.failure.error)["error"]["code"]) == ("timeout", "deadline_exceeded")
    assert seen.seconds < 5


def test_a_sound_stream_passes_byte_for_byte(perform: Any) -> None:
    seen = perform(SSE, HI, HI + event("ü€𝄞"), STOP + DONE)
    assert (seen.status, seen.body, seen.error) == (200, HI + HI + event("ü€𝄞") + STOP + DONE, None)
    assert seen.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("end", [(), (b"data: [DONE]",), (b"data: [DONE]\n",), (b"\n\n",)])
def test_a_missing_end_mark_is_added_where_every_choice_had_its_end(end: tuple[bytes, ...], perform: Any) -> None:
    seen = perform(SSE, HI, STOP, *end)
    assert (seen.body, seen.error) == (HI + STOP + DONE, None)


def test_a_choice_without_an_end_is_no_whole_answer(perform: Any) -> None:
    second = data({"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}]})
    seen = perform(SSE, HI, second, STOP)
    assert seen.error is not None
    assert seen.body == HI + second + STOP


def test_an_upstream_that_goes_on_after_its_end_holds_nobody_up(perform: Any) -> None:
    seen = perform(SSE, HI, STOP, DONE, HI, HANG)
    assert (seen.body, seen.error) == (HI + STOP + DONE, None)
    assert seen.seconds < 5


def test_a_connection_that_ends_well_is_used_again(staging: Any, asking: Any) -> None:
    async def go() -> list[bytes]:
        steps = [CHUNKED, in_chunk(HI + STOP + DONE), 0.05, b"0\r\n\r\n"]
        async with asyncio.timeout(PATIENCE), staging(steps) as stage:
            return [(await asking(stage)).body for _ in range(2)]

    assert asyncio.run(go()) == [HI + STOP + DONE] * 2


def test_a_compressed_stream_is_unpacked(perform: Any) -> None:
    head = SSE.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    seen = perform(head, gzip.compress(HI + STOP + DONE))
    assert (seen.body, seen.error) == (HI + STOP + DONE, None)
    assert "content-encoding" not in seen.headers


def test_a_large_event_passes_whole(perform: Any) -> None:
    large = event("x" * 10_000_000)
    seen = perform(SSE, HI, large, STOP, DONE)
    assert seen.error is None
    assert seen.body == HI + large + STOP + DONE


def test_an_endless_event_is_an_error_before_memory_ends(perform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai_compat.gateway.upstreams.framing.LONGEST_EVENT", 1 << 20)
    seen = perform(SSE, HI, b"data: ", *[b"x" * 65536] * 64, HANG)
    assert seen.error is not None
    assert "without an end" in seen.error.message


def test_a_slow_client_does_not_make_the_gateway_hold_the_stream(staging: Any, asking: Any) -> None:
    async def go() -> tuple[int, int]:
        taken = 0

        async def take(chunk: bytes) -> None:
            nonlocal taken
            taken += len(chunk)
            await asyncio.sleep(0.02 if taken < 1 << 20 else PATIENCE)

        async with asyncio.timeout(PATIENCE), staging([SSE, *[event("x" * 10_000)] * 4000]) as stage:
            request = asyncio.ensure_future(asking(stage, take=take, idle_timeout=0.2))
            while taken < 1 << 20:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            return stage.sent, taken

    sent, taken = asyncio.run(go())
    assert sent - taken < 16 << 20  # the sockets of the machine hold some of it


def test_what_the_client_did_not_ask_for_is_counted_and_taken_out(perform: Any) -> None:
    nothing = HI[:-3] + b',"usage":null}\n\n'
    seen = perform(SSE, nothing, nothing.replace(b',"usage":null', b', "usage": null'), STOP, USAGE, DONE)
    assert seen.account.counts == [(7, 2, 0)]
    assert seen.body == HI + HI + STOP + DONE


def test_the_name_of_the_model_is_the_one_that_the_client_used(perform: Any) -> None:
    seen = perform(SSE, HI + HI, HI, STOP, DONE, remote="remote")
    assert seen.body == (HI + HI + HI + STOP + DONE).replace(b'"model":"remote"', b'"model":"public"')


# Answers that are no streams.
def test_a_whole_answer_passes_byte_for_byte_and_is_counted(perform: Any) -> None:
    body = json.dumps(WHOLE, indent=1).encode()
    seen = perform(answer("200 OK", body, "application/json", "set-cookie: a=b", "openai-organization: org"), stream=None)
    assert (seen.status, seen.body) == (200, body)
    assert seen.headers == {"content-type": "application/json", "content-length": str(len(body))}
    assert seen.account.counts == [(7, 2, 4)]


def test_a_renamed_model_of_a_whole_answer_has_the_right_length(perform: Any) -> None:
    seen = perform(answer("200 OK", json.dumps(WHOLE).encode()), stream=None, remote="remote")
    assert json.loads(seen.body) == {**WHOLE, "model": "public"}
    assert seen.headers["content-length"] == str(len(seen.body))


def test_a_compressed_whole_answer_is_unpacked(perform: Any) -> None:
    body = gzip.compress(json.dumps(WHOLE).encode())
    seen = perform(answer("200 OK", body, "application/json", "content-encoding: gzip"), stream=None)
    assert json.loads(seen.body) == WHOLE
    assert seen.headers["content-length"] == str(len(seen.body))
    assert "content-encoding" not in seen.headers


NO_ANSWERS: dict[str, tuple[tuple[Any, ...], str]] = {
    "empty": ((answer("200 OK", b""),), "server_error"),
    "spaces": ((answer("200 OK", b" \n "),), "server_error"),
    "no JSON": ((answer("200 OK", b"{oops"),), "server_error"),
    "a list": ((answer("200 OK", b"[]"),), "server_error"),
    "no UTF-8": ((answer("200 OK", json.dumps(WHOLE).encode().replace(b"Hi", b"\xff\xfe")),), "server_error"),
    "null for choices": ((answer("200 OK", json.dumps({**WHOLE, "choices": None}).encode()),), "server_error"),
    "no choice": ((answer("200 OK", json.dumps({**WHOLE, "choices": []}).encode()),), "server_error"),
    "no choices": ((answer("200 OK", b'{"id":"c"}'),), "server_error"),
    "an error": ((answer("200 OK", b'{"error":{"message":"m","code":429}}'),), "rate_limited"),
    "a flat error": ((answer("200 OK", b'{"object":"error","message":"m","code":503}'),), "server_error"),
    "a detail": ((answer("200 OK", b'{"detail":"Internal"}'),), "server_error"),
    "html": ((answer("200 OK", b"<html>", "text/html; charset=utf-8"),), "server_error"),
    "events": ((SSE, HI, DONE), "server_error"),
    "half": ((JSON[:-2] + b"content-length: 999\r\n\r\n" + json.dumps(WHOLE).encode(),), "lost"),
    "half, and closed": ((JSON, json.dumps(WHOLE).encode()[:50]), "server_error"),
    "half, and silence": ((JSON, json.dumps(WHOLE).encode()[:50], HANG), "timeout"),
    "reset": ((JSON, b"{", 0.1, RESET), "server_error"),
    "one byte at a time": ((JSON, *[step for _ in range(40) for step in (b'"', 0.05)]), "timeout"),
    "broken chunks": (
        (JSON.replace(b"connection: close", b"transfer-encoding: chunked"), b"5\r\nabc", 0.1, b"\r\n\r\nzz"),
        "lost",
    ),
    "gzip that is none": (
        (answer("200 OK", json.dumps(WHOLE).encode(), "application/json", "content-encoding: gzip"),),
        "lost",
    ),
    "no content": ((b"HTTP/1.1 204 No Content\r\n\r\n",), "server_error"),
    "another protocol": (
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",),
        "server_error",
    ),
    "a redirect": ((b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.9/\r\ncontent-length: 0\r\n\r\n",), "refused"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_whole_answer_is_a_failure(name: str, perform: Any) -> None:
    steps, cause = NO_ANSWERS[name]
    seen = perform(*steps, stream=None, first_byte_timeout=3.0, idle_timeout=0.5)
    assert seen.failure is not None, (seen.status, seen.body)
    assert seen.failure.cause == cause
    assert not any(word in seen.said for word in ("127.0.0.1", "10.0.0.9", "/secret"))


def test_information_before_the_head_is_read_over(perform: Any) -> None:
    body = json.dumps(WHOLE).encode()
    seen = perform(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer("200 OK", body), stream=None)
    assert seen.body == body


def test_spaces_without_an_end_are_an_error_before_memory_ends(perform: Any) -> None:
    seen = perform(JSON, *[b" " * 65536] * 64, HANG, stream=None)
    assert seen.failure is not None
    assert "nothing" in seen.failure.error.message


def test_spaces_while_an_upstream_works_do_not_count_as_slowness(perform: Any) -> None:
    body = json.dumps(WHOLE).encode()
    spaces = [step for _ in range(10) for step in (b"\n", 0.1)]
    seen = perform(JSON, *spaces, body, stream=None, first_byte_timeout=0.5, idle_timeout=0.5)
    assert json.loads(seen.body) == WHOLE


def test_numbers_that_are_none_are_put_right(perform: Any) -> None:
    seen = perform(answer("200 OK", json.dumps({**WHOLE, "logprob": float("-inf")}).encode()), stream=None)
    assert json.loads(seen.body) == {**WHOLE, "logprob": None}
    assert seen.headers["content-length"] == str(len(seen.body))


def test_an_answer_too_large_to_look_at_goes_through(perform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai_compat.gateway.upstreams.whole.LONGEST_WHOLE", 1 << 20)
    body = json.dumps({"data": [{"b64_json": "x" * (3 << 20)}]}).encode()
    seen = perform(answer("200 OK", body), stream=None, path="/v1/images/generations")
    assert seen.body == body


def test_a_field_named_error_is_no_error_where_answers_have_one(perform: Any) -> None:
    body = b'{"id":"resp_1","object":"response","error":null,"output":[],"usage":{"input_tokens":3,"output_tokens":4}}'
    assert perform(answer("200 OK", body), stream=None, path="/v1/responses").account.counts == [(3, 4, 0)]
    failed = b'{"id":"video_1","object":"video","status":"failed","error":{"code":"x","message":"y"}}'
    assert perform(answer("200 OK", failed), stream=None, path="/v1/videos").body == failed


def test_speech_goes_through_as_it_comes(perform: Any) -> None:
    sound = bytes(range(256)) * 1000
    seen = perform(answer("200 OK", sound, "audio/mpeg"), stream=None, path="/v1/audio/speech")
    assert (seen.status, seen.body, seen.headers["content-type"]) == (200, sound, "audio/mpeg")


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (answer("200 OK", b"", "audio/mpeg"), "server_error"),
        (answer("200 OK", b"<html>", "text/html"), "server_error"),
        (answer("200 OK", b'{"error":{"message":"no voice"}}'), "server_error"),
    ],
)
def test_what_is_no_speech_is_a_failure(reply: bytes, cause: str, perform: Any) -> None:
    seen = perform(reply, stream=None, path="/v1/audio/speech")
    assert seen.failure is not None
    assert seen.failure.cause == cause


def test_speech_that_breaks_off_is_an_error(perform: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 1000\r\n\r\n"
    seen = perform(head, b"x" * 500, stream=None, path="/v1/audio/speech")
    assert (seen.body, seen.failure) == (b"x" * 500, None)
    assert seen.error is not None


def test_a_transcription_may_come_whole_though_a_stream_was_asked_for(perform: Any) -> None:
    body = b'{"text":"Hi","usage":{"type":"duration","seconds":1}}'
    seen = perform(answer("200 OK", body), path="/v1/audio/transcriptions")
    assert (seen.status, seen.body, seen.error, seen.account.counts) == (200, body, None, [])


def test_a_transcription_as_text_may_be_empty(perform: Any) -> None:
    seen = perform(answer("200 OK", b"", "text/plain; charset=utf-8"), stream=None, path="/v1/audio/transcriptions")
    assert (seen.status, seen.body, seen.error) == (200, b"", None)


def test_no_content_is_an_answer_where_nothing_was_posted(perform: Any) -> None:
    seen = perform(b"HTTP/1.1 204 No Content\r\n\r\n", stream=None, method="DELETE", path="/v1/videos/video_1", model=None)
    assert (seen.status, seen.body, seen.headers) == (204, b"", {})


# Other streams than chat.
def named(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\n" + data({"type": kind, **fields})


CREATED = named("response.created", response={"id": "r", "model": "remote", "error": None, "usage": None})
DELTA = named("response.output_text.delta", delta="Hi")
ENDED = named("response.completed", response={"id": "r", "model": "remote", "usage": {"input_tokens": 3, "output_tokens": 5}})


def test_a_stream_of_responses_ends_with_its_own_last_event(perform: Any) -> None:
    seen = perform(SSE, CREATED, DELTA + DELTA, ENDED, path="/v1/responses")
    assert (seen.body, seen.error) == (CREATED + DELTA + DELTA + ENDED, None)
    assert seen.account.counts == [(3, 5, 0)]


@pytest.mark.parametrize("after", [(HANG,), (0.05, b"garbage\n\n"), (b": x\n\n", HANG), (b"data: {", RESET)])
def test_nothing_that_follows_the_last_event_matters(after: tuple[Any, ...], perform: Any) -> None:
    seen = perform(SSE, CREATED, DELTA, ENDED, *after, path="/v1/responses")
    assert (seen.body.replace(b": ping\n\n", b""), seen.error) == (CREATED + DELTA + ENDED, None)
    assert seen.seconds < 5


def test_an_end_mark_after_the_last_event_stays(perform: Any) -> None:
    assert perform(SSE, CREATED, ENDED, 0.05, DONE, path="/v1/responses").body == CREATED + ENDED + DONE


def test_the_model_within_a_response_is_renamed(perform: Any) -> None:
    seen = perform(SSE, CREATED, DELTA, ENDED, path="/v1/responses", remote="remote")
    assert seen.body == (CREATED + DELTA + ENDED).replace(b"remote", b"public")


def test_a_stream_of_responses_without_its_last_event_is_an_error(perform: Any) -> None:
    seen = perform(SSE, CREATED, DELTA, path="/v1/responses")
    assert seen.body == CREATED + DELTA
    assert seen.error is not None


def test_a_failed_response_says_why_without_our_secrets(perform: Any) -> None:
    failed = named("response.failed", response={"error": {"code": "x", "message": f"no: {KEY}"}, "usage": None})
    seen = perform(SSE, CREATED, failed, path="/v1/responses")
    assert seen.error is None
    assert b"response.failed" in seen.body
    assert KEY.encode() not in seen.body


def test_an_error_in_a_stream_of_responses_is_an_error(perform: Any) -> None:
    seen = perform(SSE, CREATED, named("error", code="server_error", message=f"at {KEY}"), path="/v1/responses")
    assert seen.body == CREATED
    assert seen.error is not None
    assert KEY not in seen.said


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/v1/audio/transcriptions", [data({"type": "transcript.text.delta", "delta": "a"}), "transcript.text.done"]),
        ("/v1/audio/speech", [data({"type": "speech.audio.delta", "audio": "AAAA"}), "speech.audio.done"]),
        ("/v1/images/generations", [data({"type": "image_generation.partial_image"}), "image_generation.completed"]),
    ],
)
def test_other_streams_end_with_their_own_last_event(path: str, events: list[Any], perform: Any) -> None:
    last = data({"type": events[1], "usage": {"input_tokens": 1, "output_tokens": 2}})
    whole = perform(SSE, events[0], last, path=path)
    assert (whole.body, whole.error, whole.account.counts) == (events[0] + last, None, [(1, 2, 0)])
    half = perform(SSE, events[0], path=path)
    assert half.error is not None
