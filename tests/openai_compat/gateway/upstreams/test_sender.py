"""Requests as upstreams get them, and what becomes of a try that fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tracemalloc
from typing import Any

import pytest

from openai_compat.config import ConfigError, Price, Upstream
from openai_compat.errors import RateLimited, ShuttingDown, UpstreamError, UpstreamTimeout, kind_of
from openai_compat.gateway.order import Envelope, Failure, Order
from openai_compat.gateway.spool import Spool, Spooled
from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.http.form import Form

KEY = "sk-very-secret-1"
MIB = 1 << 20


@pytest.fixture
def with_key(monkeypatch) -> dict[str, str]:
    monkeypatch.setenv("SOME_KEY", KEY)
    return {"api_key_env": "SOME_KEY"}


def test_a_request_arrives_as_the_client_wrote_it(serving, sending, make_order, body_from, with_key) -> None:
    async def scenario() -> None:
        body = b' {"model" : "public",\n"messages":[],"unknown":1.50 } '
        async with serving() as server, sending(server.base, **with_key) as sender:
            headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer theirs")]
            order = make_order(raw=body, headers=headers)
            assert json.loads(await body_from(sender, order)) == {"choices": [{}]}
            [visit] = server.visits
            assert visit.line == "POST /v1/chat/completions HTTP/1.1"
            assert visit.headers["authorization"] == f"Bearer {KEY}"
            assert visit.headers["host"] == f"127.0.0.1:{server.port}"
            assert visit.headers["x-request-id"] == "req-1"
            assert visit.headers["accept-encoding"] == "identity"
            assert visit.headers["content-length"] == str(len(order.body))
            assert visit.body == order.body

    asyncio.run(scenario())


def test_only_what_must_change_is_changed(serving, sending, make_order, make_target, body_from) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base, query={"api-version": "1"}) as sender:
            order = make_order({"model": "public", "n": 1, "seed": 2}, query="x=%20")
            await body_from(sender, order, make_target("there", drop=("seed",)))
            [visit] = server.visits
            assert visit.line == "POST /v1/chat/completions?api-version=1&x=%20 HTTP/1.1"
            assert json.loads(visit.body) == {"model": "there", "n": 1}

    asyncio.run(scenario())


def test_the_model_that_is_paid_for_is_the_one_that_is_asked_for(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        boundary = [(b"content-type", b"multipart/form-data; boundary=b")]
        parts = [f'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n{name}\r\n' for name in ("dear", "public")]
        names = Form(fields={"model": ["dear", "public"]}, files={})
        async with serving() as server, sending(server.base) as sender:
            await body_from(sender, make_order(raw=b'{"model":"dear","model":"public"}'))
            await body_from(sender, make_order(raw="".join([*parts, "--b--\r\n"]).encode(), headers=boundary, form=names))
            assert [b"dear" in visit.body for visit in server.visits] == [False, False]
            assert all(b"public" in visit.body for visit in server.visits)

    asyncio.run(scenario())


def test_the_account_is_told_which_target_is_tried(serving, sending, make_order, make_target, body_from) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base) as sender:
            order = make_order()
            price = Price(prompt=3)
            await body_from(sender, order, make_target(price=price))
            assert order.tally.aims == [("label", price)]

    asyncio.run(scenario())


@pytest.mark.parametrize("settings", [{}, {"usage": False}])
def test_usage_is_asked_of_a_stream_where_that_is_allowed(serving, sending, make_order, body_from, settings) -> None:
    async def events(visit: Any) -> None:
        visit.answer(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n', content_type="text/event-stream")

    async def scenario() -> None:
        async with serving(events) as server, sending(server.base, **settings) as sender:
            order = make_order({"model": "public", "stream": True, "messages": []})
            assert b"[DONE]" in await body_from(sender, order)
            got = json.loads(server.visits[0].body)
            if settings:
                assert server.visits[0].body == order.body
            else:
                assert got["stream_options"] == {"include_usage": True}

    asyncio.run(scenario())


def test_a_request_without_a_body_has_none(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base) as sender:
            await body_from(sender, make_order(method="GET", path="/v1/models/x", raw=b"", headers=[]))
            [visit] = server.visits
            assert visit.line == "GET /v1/models/x HTTP/1.1"
            assert visit.body == b""
            assert "content-type" not in visit.headers

    asyncio.run(scenario())


def test_a_large_body_arrives_whole_with_its_length(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base) as sender:
            order = make_order({"model": "public", "messages": "x" * (5 * MIB)})
            await body_from(sender, order)
            assert server.visits[0].body == order.body
            assert "transfer-encoding" not in server.visits[0].headers

    asyncio.run(scenario())


def test_a_connection_is_used_again_after_a_whole_answer_only(serving, sending, make_order, make_target, body_from) -> None:
    left = asyncio.Event()

    async def answering(visit: Any) -> None:
        if b"slow" in visit.body:
            visit.answer(b'{"choices":', content_length="99999", content_type="audio/mpeg")
            assert await visit.left()
            left.set()
        else:
            visit.answer()

    async def scenario() -> None:
        async with serving(answering) as server, sending(server.base) as sender:
            for _ in range(3):
                await body_from(sender, make_order())
            assert server.connections == 1
            async with sender.send(make_order({"model": "slow"}, path="/v1/audio/speech"), make_target("slow")) as answer:
                assert answer.status == 200
                assert sender.in_flight("up") == 1
            await asyncio.wait_for(left.wait(), 10)
            assert sender.in_flight("up") == 0
            await body_from(sender, make_order())
            assert server.connections == 2

    asyncio.run(scenario())


def test_no_more_requests_are_there_at_once_than_allowed(serving, sending, make_order, make_target, body_from) -> None:
    async def scenario() -> None:
        go = asyncio.Event()

        async def answering(visit: Any) -> None:
            await go.wait()
            visit.answer()

        async with serving(answering) as server, sending(server.base, max_in_flight=2) as sender:
            running = [asyncio.create_task(body_from(sender, make_order())) for _ in range(2)]
            while len(server.visits) < 2:
                await asyncio.sleep(0.01)
            with pytest.raises(Failure) as refusal:
                await body_from(sender, make_order())
            assert refusal.value.cause == "rate_limited"
            assert isinstance(refusal.value.error, RateLimited)
            assert (refusal.value.retry_after, refusal.value.error.retry_after) == (None, 1)
            go.set()
            await asyncio.gather(*running)
            await body_from(sender, make_order())
            assert len(server.visits) == 3

    asyncio.run(scenario())


def test_a_request_that_is_called_off_gives_its_place_back(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        left = asyncio.Event()

        async def silent(visit: Any) -> None:
            assert await visit.left()
            left.set()

        async with serving(silent) as server, sending(server.base, max_in_flight=1) as sender:
            running = asyncio.create_task(body_from(sender, make_order()))
            while not server.visits:
                await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await asyncio.wait_for(left.wait(), 10)
            assert sender.in_flight("up") == 0

    asyncio.run(scenario())


async def _failure(sender: Any, order: Any, body_from: Any, target: Any = None) -> Failure:
    with pytest.raises(Failure) as failure:
        await body_from(sender, order, target)
    return failure.value


def test_a_redirect_is_an_error_and_takes_the_key_nowhere(serving, sending, make_order, body_from, with_key, caplog) -> None:
    async def scenario() -> None:
        async with serving() as elsewhere:

            async def redirecting(visit: Any) -> None:
                visit.answer(b"", "307 Temporary Redirect", location=f"{elsewhere.base}/chat/completions")

            async with serving(redirecting) as server, sending(server.base, **with_key) as sender:
                failure = await _failure(sender, make_order(), body_from)
                assert failure.cause == "refused"
                assert kind_of(failure.error).code == "upstream_error"
            assert not elsewhere.visits

    asyncio.run(scenario())
    assert "127.0.0.1" not in caplog.text


async def _hang(visit: Any) -> None:
    await visit.left()


async def _close(visit: Any) -> None:
    visit.writer.close()


async def _reset(visit: Any) -> None:
    visit.writer.transport.abort()


async def _half_a_head(visit: Any) -> None:
    visit.writer.write(b"HTTP/1.1 200 OK\r\ncontent-")
    visit.writer.close()


async def _garbage(visit: Any) -> None:
    visit.writer.write(b"\x15\x03\x01 what?\r\n\r\n")


@pytest.mark.parametrize(
    ("answering", "cause", "error"),
    [
        (_hang, "timeout", UpstreamTimeout),
        (_close, "lost", UpstreamError),
        (_reset, "lost", UpstreamError),
        (_half_a_head, "lost", UpstreamError),
        (_garbage, "server_error", UpstreamError),
    ],
)
def test_what_breaks_before_the_answer_is_a_failure_that_tells_no_secrets(
    serving, sending, make_order, body_from, with_key, caplog, answering, cause, error
) -> None:
    async def scenario() -> tuple[Failure, int]:
        async with serving(answering) as server, sending(server.base, first_byte_timeout=0.5, **with_key) as sender:
            failure = await _failure(sender, make_order(), body_from)
            assert len(server.visits) == 1
            assert sender.in_flight("up") == 0
            return failure, server.port

    with caplog.at_level(logging.DEBUG, logger="openai_compat"):
        failure, port = asyncio.run(scenario())
    assert failure.cause == cause
    assert type(failure.error) is error
    assert "public" in failure.error.message
    assert "upstream 'up'" in caplog.text
    for secret in (KEY, "127.0.0.1", str(port)):
        assert secret not in failure.error.message + caplog.text


def test_nobody_there_is_a_request_that_has_not_begun(serving, sending, make_order, body_from, caplog) -> None:
    async def scenario() -> None:
        async with serving() as server:
            base = server.base
        async with sending(base) as sender:
            failure = await _failure(sender, make_order(), body_from)
        assert failure.cause == "not_begun"
        assert isinstance(failure.error, UpstreamError)
        async with sending("http://no-such-host.invalid/v1") as sender:
            assert (await _failure(sender, make_order(), body_from)).cause == "not_begun"

    asyncio.run(scenario())
    assert "ECONNREFUSED" in caplog.text
    assert "has no address" in caplog.text
    assert "invalid" not in caplog.text


def test_without_its_key_an_upstream_is_not_asked(serving, sending, make_order, body_from, tmp_path, caplog) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base, api_key_file=str(tmp_path / "nothing")) as sender:
            failure = await _failure(sender, make_order(), body_from)
            assert failure.cause == "refused"
            assert kind_of(failure.error).status == 502
            assert not server.visits
            assert str(tmp_path) not in failure.error.message + caplog.text

    asyncio.run(scenario())


def test_after_the_end_nothing_is_sent(serving, sending, make_order, body_from) -> None:
    async def scenario() -> None:
        async with serving() as server, sending(server.base) as sender:
            await body_from(sender, make_order())
            await sender.close()
            failure = await _failure(sender, make_order(), body_from)
            assert failure.cause == "not_begun"
            assert isinstance(failure.error, ShuttingDown)

    asyncio.run(scenario())


@pytest.fixture
def form(make_order) -> Any:
    """An order that brings a file, of so many times the same bytes, and where the file waits."""

    async def made(block: bytes, times: int) -> tuple[Order, Spooled]:
        spooled = Spooled(Spool(100 * MIB))
        await spooled.write(b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\npublic\r\n')
        await spooled.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n')
        for _ in range(times):
            await spooled.write(block)
        await spooled.write(b"\r\n--b--\r\n")
        order = make_order(
            path="/v1/audio/transcriptions",
            headers=[(b"content-type", b"multipart/form-data; boundary=b")],
            raw=spooled,
            envelope=Envelope(model="public"),
            form=Form(fields={"model": ["public"]}, files={}),
        )
        return order, spooled

    return made


def test_a_form_streams_to_the_upstream_with_its_length(serving, sending, make_target, body_from, form) -> None:
    async def answering(visit: Any) -> None:
        visit.answer(b'{"text":"x"}')

    async def scenario() -> None:
        order, spooled = await form(b"\0\xff" * MIB, 1)
        async with serving(answering, limit=16 * MIB) as server, sending(server.base) as sender:
            await body_from(sender, order)
            await body_from(sender, order, make_target("there"))
            same, changed = server.visits
            assert same.body == b"".join([piece async for piece in spooled.pieces()])
            assert changed.body == same.body.replace(b"public", b"there")
            assert changed.headers["content-type"] == "multipart/form-data; boundary=b"
        spooled.close()

    asyncio.run(scenario())


def test_a_large_upload_is_in_nobodys_memory(sending, make_order, make_target, body_from, form) -> None:
    size = 64 * MIB

    async def swallowing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        left = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        assert left > size
        while left:
            left -= len(await reader.read(left))
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"text":"x"}')
        await reader.read()
        writer.close()

    async def scenario() -> None:
        order, spooled = await form(os.urandom(MIB), size // MIB)
        listening = await asyncio.start_server(swallowing, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening, sending(f"http://127.0.0.1:{port}/v1") as sender:
            tracemalloc.start()
            try:
                assert await body_from(sender, order, make_target("there")) == b'{"text":"x"}'
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB
            finally:
                tracemalloc.stop()
        spooled.close()
        await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_an_upstream_may_answer_before_it_has_read_the_upload(sending, make_order, body_from) -> None:
    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"error":{"message":"too large"}}'
        writer.write(
            b"HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        await reader.read(1 << 20)
        await asyncio.sleep(0.3)
        writer.close()

    async def scenario() -> None:
        listening = await asyncio.start_server(refusing, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening, sending(f"http://127.0.0.1:{port}/v1") as sender:
            order = make_order({"model": "public", "messages": "x" * (24 * MIB)})
            assert b"too large" in await body_from(sender, order)
            await asyncio.sleep(0.4)

    asyncio.run(scenario())


def test_settings_that_cannot_work_are_refused_at_the_start(tmp_path) -> None:
    for settings in ({"base_url": "nonsense"}, {"base_url": "https://h/v1", "ca_file": str(tmp_path / "nothing")}):
        with pytest.raises(ConfigError):
            UpstreamSender({"up": Upstream(**settings)}, hold=5, ping_interval=5)


@pytest.mark.parametrize("padding", [0, 300_000], ids=["in one write", "by the session"])
def test_the_time_for_the_first_byte_is_over_once_it_came(serving, sending, make_order, body_from, padding) -> None:
    """Also where the first event came in one piece with the head, and nothing else wakes the timer up."""

    async def thinking(visit: Any) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        event = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
        visit.writer.write(head + event)
        await asyncio.sleep(0.9)
        visit.writer.write(b"data: [DONE]\n\n")
        visit.writer.close()

    async def scenario() -> bytes:
        async with serving(thinking) as server, sending(server.base, first_byte_timeout=0.3, idle_timeout=20) as sender:
            return await body_from(sender, make_order({"model": "public", "stream": True, "x": "y" * padding}))

    assert asyncio.run(scenario()).endswith(b"data: [DONE]\n\n")
