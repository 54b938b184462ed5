"""The relay in a real litestar app and server, in front of real worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import resource
import signal
import tracemalloc
import zlib
from typing import Any

import pytest
from litestar import Litestar, get, post
from msgspec import Struct, structs

from openai_compat.gateway.relay import Relay
from openai_compat.gateway.replica import InlineReplica
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.errors import exception_handlers
from openai_compat.http.front import Front

MIB = 1024**2


class Ask(Struct, frozen=True):
    model: str
    mode: str | None = None
    verb: str = "generate_text"


def make_app(relay: Relay, states: list[dict[str, Any]] | None = None) -> Any:
    @post("/v1/x", opt={"endpoint": Endpoint(Ask, lambda request: request.verb)})
    async def relayed() -> None:
        raise AssertionError("the relay answers")

    @get("/own")
    async def own() -> str:
        return "here"

    app = Litestar([relayed, own], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)
    front = Front(app, relay.serve)

    async def watched(scope, receive, send):
        if scope["type"] == "http":
            scope.setdefault("state", {})
            if states is not None:
                states.append(scope["state"])
        await front(scope, receive, send)

    return watched


@pytest.fixture
def gateway(arena, live, relay_to):
    """A pool, a server in front of it, and what the middleware saw of each request."""

    @contextlib.asynccontextmanager
    async def make(models=None, *, server=None, **limits):
        async with arena(models or {"a": {}}, **limits) as world:
            config = structs.replace(world.config, server=structs.replace(world.config.server, **(server or {})))
            world.states_seen = []
            app = make_app(relay_to(config, world.catalog, world.pool), world.states_seen)
            async with live(app) as running:
                yield world, running

    return make


async def answer_of(running, body, headers=None, path="/v1/x"):
    wire = await running.connect()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    wire.send("POST", path, data, {"content-type": "application/json", **(headers or {})})
    status, got = await wire.head()
    return status, got, json.loads(await wire.body(got))


def test_a_whole_answer_passes_with_its_status_and_headers(gateway, in_time):
    async def scenario():
        async with gateway() as (world, running):
            status, headers, body = await answer_of(running, {"model": "a", "status": 207})
            assert status == 207
            assert headers["x-answered-by"] == "fake"
            assert "x-oc-secret" not in headers
            assert body["body"] == {"model": "a", "status": 207}
            assert world.states_seen[0]["model"] == "a"
            assert world.states_seen[0]["ttfb"] > 0

    in_time(scenario())


def test_the_worker_is_told_what_the_gateway_knows_and_nothing_the_client_pretends(gateway, in_time):
    async def scenario():
        async with gateway() as (_, running):
            sent = {
                "x-oc-facts": '{"request_id":"forged","model":"b","public_model":"b"}',
                "X-OC-Other": "1",
                "authorization": "Bearer secret",
                "cookie": "secret",
                "te": "trailers",
                "x-request-id": "mine",
                "openai-beta": "kept",
            }
            _, _, body = await answer_of(running, {"model": "a:code"}, sent, path="/v1/x?y=%20z")
            assert body["facts"]["request_id"] == "mine"
            assert body["facts"]["public_model"] == "a:code"
            assert body["facts"]["mode"] == "code"
            assert 0 < body["facts"]["deadline"] <= 600
            assert body["headers"]["openai-beta"] == "kept"
            assert not {"authorization", "cookie", "te", "x-oc-other", "x-request-id"} & body["headers"].keys()

    in_time(scenario())


def test_a_stream_comes_piece_by_piece(gateway, in_time, tmp_path):
    async def scenario():
        async with gateway() as (_, running):
            gate = tmp_path / "gate"
            wire = await running.connect()
            wire.send("POST", "/v1/x", json.dumps({"model": "a", "stream": 1, "hold_after": 0, "gate": str(gate)}).encode())
            status, headers = await wire.head()
            assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert await wire.chunk() == b'data: {"n": 0}\n\n'
            gate.touch()
            assert b"".join(await wire.chunks()) == b'data: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n'

    in_time(scenario())


def test_what_was_asked_is_not_kept_for_as_long_as_a_stream_lasts(gateway, in_time, tmp_path):
    async def scenario():
        async with gateway() as (_, running):
            gate = tmp_path / "gate"
            tracemalloc.start()
            try:
                wire = await running.connect()
                asked = {"model": "a", "stream": 1, "hold_after": 0, "gate": str(gate)}
                wire.send("POST", "/v1/x", json.dumps({**asked, "long": "x" * (MIB - 1000)}).encode())
                await wire.head()
                await wire.chunk()
                now, most = tracemalloc.get_traced_memory()
                assert now < MIB / 2 < most
            finally:
                tracemalloc.stop()
            gate.touch()
            await wire.chunks()

    in_time(scenario())


def test_other_routes_pass_through(gateway, in_time):
    async def scenario():
        async with gateway() as (world, running):
            wire = await running.connect()
            wire.send("GET", "/own")
            status, headers = await wire.head()
            assert (status, await wire.body(headers)) == (200, b"here")
            assert world.events() == []

    in_time(scenario())


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{", 400, None, None),
        (b'{"model": 1}', 400, "model", None),
        ({"model": "nobody"}, 404, "model", "model_not_found"),
        ({"model": "a", "verb": "embed_text"}, 400, "model", "unsupported_capability"),
        ({"model": "a", "mode": "poetry"}, 400, "mode", "unsupported_mode"),
        ({"model": "a:poetry"}, 400, "mode", "unsupported_mode"),
    ],
)
def test_a_bad_request_is_refused_without_loading_anything(gateway, in_time, body, status, param, code):
    async def scenario():
        async with gateway() as (world, running):
            got, _, answer = await answer_of(running, body)
            assert (got, answer["error"]["param"]) == (status, param)
            assert code is None or answer["error"]["code"] == code
            assert world.events() == []

    in_time(scenario())


def _gzip_bomb() -> bytes:
    return gzip.compress(b"0" * 4 * MIB)


_RAW = zlib.compressobj(wbits=-15)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
        ("deflate", zlib.compress),
        ("deflate", lambda body: _RAW.compress(body) + _RAW.flush()),
        ("identity", bytes),
    ],
    ids=["gzip", "gzip of two members", "deflate", "raw deflate", "identity"],
)
def test_a_packed_body_is_unpacked(gateway, in_time, encoding, pack):
    async def scenario():
        async with gateway() as (_, running):
            status, _, body = await answer_of(running, pack(b'{"model": "a"}'), {"content-encoding": encoding})
            assert status == 200
            assert body["body"] == {"model": "a"}
            assert "content-encoding" not in body["headers"]

    in_time(scenario())


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * (2 * MIB), {}, 413),
        (_gzip_bomb(), {"content-encoding": "gzip"}, 413),
        (b"no gzip", {"content-encoding": "gzip"}, 400),
        (gzip.compress(b'{"model": "a"}')[:-9], {"content-encoding": "gzip"}, 400),
        (gzip.compress(b"") * 10_000 + gzip.compress(b'{"model": "a"}'), {"content-encoding": "gzip"}, 400),
        (b"{}", {"content-encoding": "br"}, 415),
        (b"{}", {"content-type": "multipart/form-data; boundary=x"}, 415),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"content-type": "text/plain"}, 415),
    ],
    ids=["large", "bomb", "not gzip", "cut", "many members", "brotli", "multipart", "form", "text"],
)
def test_a_body_that_cannot_be_read_is_refused_by_its_own_status(gateway, in_time, body, headers, status):
    async def scenario():
        async with gateway(server={"max_body": MIB}) as (_, running):
            got, _, answer = await answer_of(running, body, headers)
            assert got == status
            assert answer["error"]["message"]

    in_time(scenario())


def test_a_worker_killed_in_a_stream_leaves_whole_events_and_then_an_error_and_the_next_request_works(gateway, in_time):
    async def scenario():
        async with gateway() as (world, running):
            wire = await running.connect()
            wire.send("POST", "/v1/x", b'{"model": "a", "stream": true, "chunks": 100000, "delay": 0.005}')
            await wire.head()
            await wire.chunk()
            os.kill(int(world.events()[0][2]), signal.SIGKILL)
            events = b"".join(await wire.chunks()).split(b"\n\n")
            error = json.loads(events[-2].removeprefix(b"data: "))["error"]
            assert (error["type"], error["code"]) == ("server_error", "worker_died")
            assert events[-1] == b""
            assert all(json.loads(event.removeprefix(b"data: ")) for event in events[:-1])
            status, _, _ = await answer_of(running, {"model": "a"})
            assert status == 200
            assert world.starts("a") == 2

    in_time(scenario())


def test_what_still_runs_when_a_stopping_servers_grace_is_over_is_told_so(gateway, in_time, tmp_path, caplog):
    async def scenario():
        async with gateway() as (world, running):
            stream, whole = await running.connect(), await running.connect()
            stream.send("POST", "/v1/x", b'{"model": "a", "stream": true, "chunks": 100000, "delay": 0.005}')
            await stream.head()
            whole.send("POST", "/v1/x", json.dumps({"model": "a", "hold": str(tmp_path / "never")}).encode())
            await world.until(lambda: world.pool.states()[0].active == 2)
            running.server.should_exit = True
            events = b"".join(await stream.chunks()).split(b"\n\n")
            assert json.loads(events[-2].removeprefix(b"data: "))["error"]["code"] == "shutting_down"
            status, headers = await whole.head()
            assert (status, headers["retry-after"]) == (503, "1")
            assert json.loads(await whole.body(headers))["error"]["code"] == "shutting_down"

    in_time(scenario())
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_a_worker_killed_before_its_answer_is_a_503(gateway, in_time, tmp_path):
    async def scenario():
        async with gateway() as (world, running):
            pending = asyncio.ensure_future(answer_of(running, {"model": "a", "hold": str(tmp_path / "never")}))
            await world.until(lambda: world.pool.states()[0].active)
            await asyncio.sleep(0.3)
            os.kill(int(world.events()[0][2]), signal.SIGKILL)
            status, headers, body = await pending
            assert (status, body["error"]["code"]) == (503, "worker_died")
            assert headers["retry-after"] == "1"

    in_time(scenario())


def test_a_request_that_has_not_begun_goes_to_a_fresh_worker(gateway, in_time):
    async def scenario():
        async with gateway() as (world, running):
            await answer_of(running, {"model": "a"})
            slot = world.pool._residents.slots["a"]
            await slot.worker.replica.close()
            os.unlink(slot.worker.socket)
            slot.worker.replica._session = None
            status, _, _ = await answer_of(running, {"model": "a"})
            assert status == 200
            assert world.starts("a") == 2

    in_time(scenario())


@pytest.mark.parametrize("script", [{"stream": True, "chunks": 100000, "delay": 0.01}, {"hold": "/nonexistent/gate"}])
def test_a_client_that_leaves_ends_the_work_at_once(gateway, in_time, script):
    async def scenario():
        async with gateway() as (world, running):
            await world.ask("a")
            wire = await running.connect()
            wire.send("POST", "/v1/x", json.dumps({"model": "a", **script}).encode())
            await world.until(lambda: world.pool.states()[0].active)
            await asyncio.sleep(0.2)
            wire.leave()
            await world.until(lambda: any(event[0] == "disconnected" for event in world.events()))
            await world.until(lambda: not world.pool.states()[0].active)

    in_time(scenario())


def test_a_gateway_without_a_file_handle_left_refuses_and_does_not_blame_the_worker(gateway, in_time):
    async def scenario():
        async with gateway() as (world, running):
            await answer_of(running, {"model": "a"})
            await world.pool._residents.slots["a"].worker.replica.close()
            world.pool._residents.slots["a"].worker.replica._session = None
            wire = await running.connect()
            await asyncio.sleep(0.2)
            with no_handle_left():
                wire.send("POST", "/v1/x", b'{"model": "a"}')
                status, headers = await wire.head()
            error = json.loads(await wire.body(headers))["error"]
            assert (status, error["code"], headers["retry-after"]) == (503, "unavailable", "1")
            assert (await answer_of(running, {"model": "a"}))[0] == 200
            assert world.starts("a") == 1

    in_time(scenario())


@contextlib.contextmanager
def no_handle_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in taken:
            os.close(handle)


def test_a_client_that_leaves_while_the_model_loads_waits_no_more(gateway, in_time):
    async def scenario():
        async with gateway({"a": {"options": {"load": 1.0}}}) as (world, running):
            wire = await running.connect()
            wire.send("POST", "/v1/x", b'{"model": "a"}')
            await world.until(lambda: world.pool.states()[0].waiting)
            wire.leave()
            await world.until(lambda: not world.pool.states()[0].waiting)
            assert world.state("a") == "loading"

    in_time(scenario())


def test_the_deadline_is_a_504_before_the_first_byte_and_an_event_after(gateway, in_time):
    async def scenario():
        async with gateway(server={"request_timeout": 0.7}) as (world, running):
            await world.ask("a")
            status, _, body = await answer_of(running, {"model": "a", "hold": "/nonexistent/gate"})
            assert (status, body["error"]["code"]) == (504, "deadline_exceeded")
            wire = await running.connect()
            wire.send("POST", "/v1/x", b'{"model": "a", "stream": true, "chunks": 10000, "delay": 0.05}')
            await wire.head()
            assert json.loads((await wire.chunks())[-1].removeprefix(b"data: "))["error"]["code"] == "deadline_exceeded"

    in_time(scenario())


def test_a_load_that_takes_too_long_is_a_503_with_retry_after(gateway, in_time):
    async def scenario():
        async with gateway({"a": {"load_timeout": 0.1, "options": {"load": 1.0}}}) as (world, running):
            status, headers, body = await answer_of(running, {"model": "a"})
            assert (status, body["error"]["code"], headers["retry-after"]) == (503, "model_loading", "5")
            await world.until_state("a", "ready")
            status, _, _ = await answer_of(running, {"model": "a"})
            assert status == 200
            assert world.starts("a") == 1

    in_time(scenario())


def test_many_streams_at_once_are_not_mixed_up(gateway, in_time):
    async def scenario():
        async with gateway() as (_, running):

            async def one(count):
                wire = await running.connect()
                wire.send("POST", "/v1/x", json.dumps({"model": "a", "stream": True, "chunks": count}).encode())
                await wire.head()
                return b"".join(await wire.chunks()).count(b'"n"')

            counts = range(1, 33)
            assert await asyncio.gather(*(one(count) for count in counts)) == list(counts)

    in_time(scenario())


class OneReplica:
    """A pool of one replica that is always there."""

    def __init__(self, replica):
        self.replica = replica
        self.left = 0
        self.request_id = "r"

    async def acquire(self, model_id, *, wait=None, request_id="request"):
        return self

    def leave(self):
        self.left += 1


def test_an_application_in_this_process_answers_as_a_worker_does(arena, live, in_time, relay_to):
    seen = []

    async def worker(scope, receive, send):
        body = (await receive())["body"]
        if b"stream" in body:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
            for _ in range(3):
                await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            assert (await receive())["type"] == "http.disconnect"
            seen.append("left")
            return
        answer = json.dumps({"path": scope["path"], "body": json.loads(body)}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def scenario():
        async with arena({"a": {}}) as world:
            pool = OneReplica(InlineReplica(worker))
            async with live(make_app(relay_to(world.config, world.catalog, pool))) as running:
                _, _, body = await answer_of(running, {"model": "a"})
                assert body == {"path": "/v1/x", "body": {"model": "a"}}
                wire = await running.connect()
                wire.send("POST", "/v1/x", b'{"model": "a", "stream": true}')
                await wire.head()
                assert await wire.chunk() == b"data: 1\n\n"
                wire.leave()
                await world.until(lambda: seen == ["left"])
                await world.until(lambda: pool.left == 2)

    in_time(scenario())
