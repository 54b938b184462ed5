"""Requests to an engine under a lease: rewritten, guarded, refused and cut off as with an upstream."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from msgspec.structs import replace

from openai_compat.errors import APIError, ModelUnavailable, UnsupportedCapability, UnsupportedMode
from openai_compat.gateway.engines.sender import EngineSender
from openai_compat.gateway.order import Envelope, Failure, LocalTarget, Order
from openai_compat.gateway.replica import Answer
from routes.chat import ChatController

ENDPOINT = ChatController.create.opt["endpoint"]


class Account:
    """A tally that remembers."""

    label = ""

    def __init__(self) -> None:
        self.counts: tuple[int, ...] = ()

    def aim(self, label: str, price: object) -> None:
        self.label = label

    def used(self, *counts: int) -> None:
        self.counts = counts

    def forget(self) -> None: ...

    def passed(self, size: int) -> None: ...

    def close(self, **_: bool) -> None: ...


class Others:
    def send(self, order: Order, target: LocalTarget) -> AbstractAsyncContextManager[Answer]:
        raise LookupError(target.model_id)


def order(text: str = "hello", *, stream: bool = False, path: str = "/v1/chat/completions") -> Order:
    body = {"model": "e", "messages": [{"role": "user", "content": text}], "odd": {"kept": 1}}
    if stream:
        body["stream"] = True
    return Order(
        method="POST",
        path=path,
        query="",
        headers=[(b"content-type", b"application/json"), (b"cookie", b"secret")],
        body=json.dumps(body).encode(),
        envelope=Envelope(model="e", stream=stream),
        public_name="e",
        request_id="r",
        key_id="",
        deadline=time.monotonic() + 60,
        tally=Account(),
        endpoint=ENDPOINT,
        scope={"type": "http", "state": {}},
    )


@pytest.fixture
def sender():
    return lambda place: EngineSender(place.config.models, place.pool, Others())


TARGET = LocalTarget(model_id="e")


async def whole(answer: Answer) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks()])


def test_a_request_goes_there_under_its_name_and_the_answer_comes_under_ours(yard, command, sender) -> None:
    async def check() -> tuple[dict[str, Any], Order]:
        async with yard({"e": {"command": command(), "engine": {"name": "theirs"}}}) as place:
            asked = order()
            async with sender(place).send(asked, TARGET) as answer:
                assert answer.status == 200
                assert place.pool.states()[0].active == 1
                told = json.loads(await whole(answer))
            assert place.pool.states()[0].active == 0
            return told, asked

    told, asked = asyncio.run(check())
    seen = json.loads(told["choices"][0]["message"]["content"])
    assert seen["body"] == {**json.loads(asked.body), "model": "theirs"}
    assert told["model"] == "e"
    assert (asked.tally.label, asked.tally.counts[:2]) == ("e", (1, 1))


def test_a_stream_comes_through(yard, command, sender) -> None:
    async def check() -> bytes:
        async with (
            yard({"e": {"command": command(), "engine": {"name": "theirs"}}}) as place,
            sender(place).send(order(stream=True), TARGET) as answer,
        ):
            return await whole(answer)

    events = asyncio.run(check())
    deltas = [json.loads(line[6:]) for line in events.splitlines() if line.startswith(b"data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in deltas) == "0 1 2 "
    assert {event["model"] for event in deltas} == {"e"}
    assert events.endswith(b"data: [DONE]\n\n")


def test_what_it_calls_its_model_is_found_out_and_not_told(yard, command, sender) -> None:
    async def check() -> dict[str, Any]:
        async with (
            yard({"e": {"command": command()}}) as place,
            sender(place).send(order(), TARGET) as answer,
        ):
            return json.loads(await whole(answer))

    told = asyncio.run(check())
    assert json.loads(told["choices"][0]["message"]["content"])["body"]["model"] == "/its/own/path"
    assert told["model"] == "e"


def test_leaving_closes_the_connection_and_ends_the_lease(yard, command, sender) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command()}}) as place:
            async with sender(place).send(order("slow", stream=True), TARGET) as answer:
                await anext(answer.chunks())
            assert place.pool.states()[0].active == 0
            await place.until(lambda: "left" in place.log.read_text())

    asyncio.run(check())


def test_an_engine_that_dies_over_a_request_is_a_failure_and_the_next_request_restarts_it(yard, command, sender) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command()}}) as place:
            with pytest.raises(Failure) as caught:
                async with sender(place).send(order("die"), TARGET):
                    pass
            assert caught.value.cause == "lost"
            async with sender(place).send(order(), TARGET) as answer:
                assert answer.status == 200
            assert len(place.logged("start")) == 2

    asyncio.run(check())


def test_one_that_dies_in_a_stream_ends_it_with_an_error(yard, command, sender) -> None:
    async def rest_of(answer: Answer, kill: Callable[[], None]) -> None:
        chunks = answer.chunks()
        await anext(chunks)
        kill()
        async for _ in chunks:
            pass

    async def check() -> None:
        async with (
            yard({"e": {"command": command()}}) as place,
            sender(place).send(order("slow", stream=True), TARGET) as answer,
        ):
            with pytest.raises(APIError) as caught:
                await rest_of(answer, lambda: os.kill(int(place.logged("start")[0]), signal.SIGKILL))
            assert "127.0.0.1" not in caught.value.message

    asyncio.run(check())


def test_one_that_cannot_be_started_is_a_failure_with_the_reason(yard, sender) -> None:
    async def check() -> None:
        async with yard({"e": {"command": ("no-such-program-anywhere",)}}) as place:
            with pytest.raises(Failure) as caught:
                async with sender(place).send(order(), TARGET):
                    pass
            assert caught.value.cause == "server_error"
            assert isinstance(caught.value.error, ModelUnavailable)

    asyncio.run(check())


def test_what_it_is_not_said_to_do_is_refused_before_it_is_started(yard, command, sender) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command()}}) as place:
            refused = [
                (order(path="/v1/embeddings"), TARGET, UnsupportedCapability),
                (order(path="/v1/audio/speech"), TARGET, UnsupportedCapability),
                (order(), replace(TARGET, mode="creative"), UnsupportedMode),
            ]
            for asked, target, kind in refused:
                with pytest.raises(Failure) as caught:
                    async with sender(place).send(asked, target):
                        pass
                assert (caught.value.cause, type(caught.value.error)) == ("refused", kind)
            assert place.logged("start") == []

    asyncio.run(check())


def test_other_models_go_the_other_way(yard, command, sender) -> None:
    async def check() -> None:
        async with yard({"e": {"command": command()}, "w": {}}) as place:
            with pytest.raises(LookupError, match="w"):
                sender(place).send(order(), LocalTarget(model_id="w"))

    asyncio.run(check())
