"""Forms through the relay: checked by their fields, relayed as they are, held on disk while they wait."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import tracemalloc
from typing import Any

import pytest
from litestar import Litestar, post
from msgspec import Struct, structs

from openai_compat.gateway.replica import InlineReplica
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.errors import exception_handlers
from openai_compat.http.front import Front
from routes.forms import from_form

MIB = 1024**2
TYPE = "multipart/form-data; boundary=XyZ"


class Ask(Struct, frozen=True):
    model: str
    temperature: float | None = None


def field(name: str, text: str) -> bytes:
    return f'--XyZ\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()


def file(data: bytes, name: str = "file") -> bytes:
    head = f'--XyZ\r\nContent-Disposition: form-data; name="{name}"; filename="x.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return head.encode() + data + b"\r\n"


def head_of(length: int) -> bytes:
    return f"POST /v1/x HTTP/1.1\r\nhost: test\r\ncontent-type: {TYPE}\r\ncontent-length: {length}\r\n\r\n".encode()


END = b"--XyZ--\r\n"
MODEL = field("model", "a")
SMALL = MODEL + file(b"RIFF") + END


@pytest.fixture
def gateway(arena, live, relay_to):
    """A pool and a server in front of it whose route takes forms."""

    @contextlib.asynccontextmanager
    async def make(models=None, *, pool=None, **server: Any):
        async with arena(models or {"a": {}}) as world:
            config = structs.replace(world.config, server=structs.replace(world.config.server, **server))
            world.relay = relay_to(config, world.catalog, pool or world.pool)

            @post("/v1/x", opt={"endpoint": Endpoint(Ask, lambda _: "generate_text", from_form(Ask))})
            async def relayed() -> None:
                raise AssertionError("the relay answers")

            app = Litestar([relayed], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)
            async with live(Front(app, world.relay.serve)) as running:
                yield world, running

    return make


async def send(running, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict, dict]:
    wire = await running.connect()
    wire.send("POST", "/v1/x", body, {"content-type": TYPE, **(headers or {})})
    status, got = await wire.head()
    return status, got, json.loads(await wire.body(got))


@pytest.mark.parametrize("size", [4, 3 * MIB + 5])
@pytest.mark.parametrize("order", ["fields first", "file first"])
def test_a_form_reaches_the_worker_as_it_was_sent(gateway, in_time, size, order):
    data = os.urandom(size)
    body = (MODEL + file(data) if order == "fields first" else file(data) + MODEL) + END

    async def scenario():
        async with gateway() as (world, running):
            status, _, answer = await send(running, body)
            assert status == 200
            assert answer["body"] == {"form": hashlib.sha256(body).hexdigest(), "length": len(body)}
            assert answer["headers"]["content-type"] == TYPE
            assert answer["headers"]["content-length"] == str(len(body))
            assert world.relay._spool.used == 0

    in_time(scenario())


def test_the_same_route_takes_json(gateway, in_time):
    async def scenario():
        async with gateway() as (_, running):
            status, _, answer = await send(running, b'{"model": "a"}', {"content-type": "application/json"})
            assert (status, answer["body"]) == (200, {"model": "a"})

    in_time(scenario())


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (MODEL + END, 400, "file"),
        (MODEL + file(b"") + END, 400, "file"),
        (file(b"x") + END, 400, "model"),
        (field("model", "nobody") + file(b"x") + END, 404, "model"),
        (MODEL + field("temperature", "warm") + file(b"x") + END, 400, "temperature"),
        (MODEL + field("temperature", "x" * 300_000) + file(b"x") + END, 400, "temperature"),
        (MODEL + file(b"x"), 400, None),
        (b"", 400, None),
        (MODEL * 40 + file(b"x") + END, 400, None),
    ],
    ids=["no file", "empty file", "no model", "unknown model", "bad field", "long field", "cut", "empty", "many parts"],
)
def test_a_bad_form_is_refused_without_loading_anything(gateway, in_time, body, status, param):
    async def scenario():
        async with gateway() as (world, running):
            got, _, answer = await send(running, body)
            assert (got, answer["error"]["param"]) == (status, param)
            assert world.events() == []
            assert world.relay._spool.used == 0

    in_time(scenario())


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (SMALL, {"content-type": "text/plain"}, 415, "multipart/form-data"),
        (SMALL, {"content-type": "application/x-www-form-urlencoded"}, 415, "multipart/form-data"),
        (SMALL, {"content-type": "multipart/mixed; boundary=XyZ"}, 415, "multipart/form-data"),
        (gzip.compress(SMALL), {"content-encoding": "gzip"}, 415, "content encoding"),
        (SMALL, {"content-type": "multipart/form-data"}, 400, "boundary"),
        (MODEL + file(bytes(2 * MIB)) + END, {}, 413, "larger"),
        (SMALL, {"origin": "https://evil.example"}, 403, "origin"),
        (SMALL, {"origin": "null"}, 403, "origin"),
    ],
)
def test_what_is_not_taken_says_why(gateway, in_time, body, headers, status, words):
    async def scenario():
        async with gateway(max_body=MIB) as (world, running):
            got, _, answer = await send(running, body, headers)
            assert got == status
            assert words in answer["error"]["message"]
            assert world.events() == []

    in_time(scenario())


@pytest.mark.parametrize(
    ("headers", "origins"),
    [
        ({"origin": "http://test"}, ()),
        ({"origin": "http://page.example"}, ("http://page.example",)),
        ({"origin": "http://page.example"}, ("*",)),
        ({"origin": "http://page.example", "authorization": "Bearer k"}, ()),
    ],
    ids=["its own page", "an allowed page", "any page", "a page with a key"],
)
def test_a_web_page_that_may_send_a_form(gateway, in_time, headers, origins):
    async def scenario():
        async with gateway(cors_origins=origins) as (_, running):
            assert (await send(running, SMALL, headers))[0] == 200

    in_time(scenario())


def test_uploads_beyond_the_quota_are_told_to_come_back(gateway, in_time):
    async def scenario():
        async with gateway(spool_quota=2 * MIB) as (world, running):
            status, headers, answer = await send(running, MODEL + file(bytes(4 * MIB)) + END)
            assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "unavailable", "5")
            assert world.relay._spool.used == 0
            assert (await send(running, MODEL + file(bytes(MIB + 5)) + END))[0] == 200

    in_time(scenario())


def test_a_large_form_that_has_not_begun_goes_to_a_fresh_worker(gateway, in_time):
    body = MODEL + file(os.urandom(2 * MIB)) + END

    async def scenario():
        async with gateway() as (world, running):
            await send(running, SMALL)
            slot = world.pool._residents.slots["a"]
            await slot.worker.replica.close()
            os.unlink(slot.worker.socket)
            slot.worker.replica._session = None
            status, _, answer = await send(running, body)
            assert (status, answer["body"]["form"]) == (200, hashlib.sha256(body).hexdigest())
            assert world.starts("a") == 2

    in_time(scenario())


def test_a_client_that_leaves_in_its_upload_gives_the_room_back(gateway, in_time):
    async def scenario():
        async with gateway() as (world, running):
            wire = await running.connect()
            wire.writer.write(head_of(20 * MIB) + MODEL + file(bytes(3 * MIB)))
            await world.until(lambda: world.relay._spool.used >= 2 * MIB)
            wire.leave()
            await world.until(lambda: world.relay._spool.used == 0)
            assert world.events() == []

    in_time(scenario())


def test_a_crowd_of_large_uploads_leaves_memory_as_it_is(gateway, in_time):
    body = MODEL + file(bytes(20 * MIB)) + END

    async def scenario():
        async with gateway() as (_, running):
            await send(running, SMALL)
            tracemalloc.start()
            answers = await asyncio.gather(*(send_slowly(running, body) for _ in range(8)))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert set(answers) == {hashlib.sha256(body).hexdigest()}
            assert peak < 48 * MIB  # a fifth of what is uploaded

    in_time(scenario(), 120)


async def send_slowly(running, body: bytes) -> str:
    """In pieces, so that it is the server that buffers if anybody does."""
    wire = await running.connect()
    wire.writer.write(head_of(len(body)))
    for start in range(0, len(body), MIB):
        wire.writer.write(body[start : start + MIB])
        await wire.writer.drain()
    _, headers = await wire.head()
    return json.loads(await wire.body(headers))["body"]["form"]


class OneReplica:
    """A pool of one replica that is always there."""

    request_id = "r"

    def __init__(self, replica):
        self.replica = replica

    async def acquire(self, model_id, *, wait=None, request_id="request"):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("size", [4, 3 * MIB])
def test_an_application_in_this_process_gets_the_form_in_pieces(gateway, in_time, size):
    body = MODEL + file(os.urandom(size)) + END

    async def worker(scope, receive, send):
        pieces = []
        while (message := await receive())["more_body"]:
            pieces.append(message["body"])
        answer = hashlib.sha256(b"".join(pieces)).hexdigest().encode()
        headers = dict(scope["headers"])
        assert headers[b"content-length"] == str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"66")]})
        await send({"type": "http.response.body", "body": b'"' + answer + b'"'})

    async def scenario():
        async with gateway(pool=OneReplica(InlineReplica(worker))) as (_, running):
            assert (await send(running, body))[2] == hashlib.sha256(body).hexdigest()

    in_time(scenario())
